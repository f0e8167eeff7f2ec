"""GSM8K and all of its shape (generated word problems, one's own rows): a question, and a solution that ends in
`#### number`, or a bare number."""

from collections.abc import Iterator

from eval.grading import answers
from eval.tasks.task import Question, Task
from pipeline.formats import Format, text, text_or_number
from pipeline.sample.named import answered
from pipeline.sample.problems import word_problems


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    return answered(name, split, n, seed) if name else word_problems(split, n, 3 * seed)


FORMAT = Format("gsm8k", {"question": text, "answer": text_or_number}, generate)


def read(row: dict) -> Question | str:
    number = gold(row["answer"])
    if number is None:
        return "'answer' has no final number"
    seen = row.get(
        "seen"
    )  # whether training knows the template; a column of that name may mean something else
    columns = {"seen": seen if isinstance(seen, bool) else None}
    solution = row["answer"] if "####" in row["answer"] else f"#### {number}"
    return Question(row["question"], number, grade, solution, columns)


TASK = Task(FORMAT, 1319, read)


def gold(solution: str) -> str | None:
    """The final number of a solution, or of a bare number as SVAMP has them; None if it cannot be read."""
    return answers.answer(solution if "####" in solution else f"#### {solution}")


def grade(completion: str, gold: str) -> dict:
    """{answer, correct} by our reading, {strict, flexible} whether the harness's readings give gold too."""
    answer = answers.answer(completion)
    return {
        "answer": answer,
        "correct": answers.same(answer, gold),
        "strict": answers.same(answers.strict(completion), gold),
        "flexible": answers.same(answers.flexible(completion), gold),
    }
