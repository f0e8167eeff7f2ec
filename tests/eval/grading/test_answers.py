import json
import os
import random
import re
import subprocess
import sys
import time
from fractions import Fraction

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.grading import answers

GRAMMAR = [*"-−$%.,= \n*/x059٣．é\u2028\x00"]
GRAMMAR += ["####", "#### ", "###", "1,234", "1/2", "A: ", "<<6*9=54>>", "[invalid]"]

REFEREE = """
import json, pathlib, sys, yaml, lm_eval
from lm_eval.filters import build_filter_ensemble
task = pathlib.Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml"
texts = json.load(sys.stdin)
read = {}
for chain in yaml.safe_load(task.read_text())["filter_list"]:
    steps, outputs = chain["filter"], [[text] for text in texts]
    for step in steps:
        options = {key: option for key, option in step.items() if key != "function"}
        (make,) = build_filter_ensemble(chain["name"], [(step["function"], options)]).filters
        outputs = list(make().apply(outputs, [{}] * len(texts)))
    read[chain["name"]] = outputs
json.dump(read, sys.stdout)
"""


def table() -> list[tuple[str, str | None]]:
    """The cases that the module's docstring promises: its columns begin where the dashes do."""
    lines = answers.__doc__.splitlines()
    (rule,) = [i for i, line in enumerate(lines) if re.fullmatch(r"[ -]*-{9}[ -]*", line)]
    text, read, why = (match.start() for match in re.finditer("-+", lines[rule]))
    cases = []
    for line in lines[rule + 1 : lines.index("", rule)]:
        expected = line[read:why].strip()
        for case in re.split(r"\s{2,}", line[text:read].strip()) if expected else []:
            cases.append((case.replace("\\n", "\n"), None if expected == "null" else expected))
    return [case for case in cases if not case[0].startswith("(")]


@pytest.mark.parametrize(("text", "expected"), table())
def test_the_docstring_table_holds(text, expected):
    assert answers.answer(text) == expected


def test_the_table_is_read_whole():
    assert len(table()) >= 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### 42..", "42"),
        ("#### **18**", "18"),
        ("#### \\$18", "18"),
        ("#### €1.234,5", None),
        ("#### 1234,567", None),
        ("#### 12,345,67", None),
        ("#### 2x4", None),
        ("#### 10 - 3 left", None),
        ("#### 5-year", "5"),
        ("#### $18/day", "18"),
        ("#### -1/2", "-0.5"),
        ("#### 7/14", "0.5"),
        ("#### 1.5/2", "0.75"),
        ("#### 3/4/2024", None),
        ("#### 0.0005", "0.0005"),
        ("#### -0", "0"),
        ("#### -.50", "-0.5"),
        ("#### 100", "100"),
        ("#### 10.02609801394532", "10.02609801394532"),
        ("##### 18", "18"),
        ("#### 18\r\nnext", "18"),
        ("#### Total – 5", "5"),
        ("#### B12 and 5", "5"),
        ("#### ٣", None),
        ("#### " + "9" * 100, "9" * 100),
        ("#### " + "9" * 101, None),
        ("#### ." + "0" * 98 + "1", "0." + "0" * 98 + "1"),
        ("####", None),
        ("", None),
        ("The answer is 18.", None),
    ],
)
def test_more_cases(text, expected):
    assert answers.answer(text) == expected


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),  # as lm-evaluation-harness 0.4.13 answers; None is its "[invalid]"
    [
        ("#### 1 #### 2", "1", "2"),
        ("#### 1,450,000.", "1,450,000.", "1,450,000."),
        ("####18", None, "18"),
        ("#### $18", None, "$18"),
        ("#### −5", None, "5"),
        ("#### .", ".", None),
        ("... 5 ...", None, "..."),
        ("a-b 7-", None, "7"),
        ("$ 5.", None, "5."),
        ("#### -5-6", "-5", "-6"),
        ("nothing", None, None),
    ],
)
def test_the_harness_readings(text, strict, flexible):
    assert (answers.strict(text), answers.flexible(text)) == (strict, flexible)


def test_the_harness_agrees(request):
    python = os.environ.get("REFEREE_PYTHON")
    if not python:
        pytest.skip("REFEREE_PYTHON, a Python that has lm-evaluation-harness, is not set")
    rng = random.Random(0)
    texts = ["".join(rng.choices(GRAMMAR, k=rng.randrange(13))) for _ in range(80_000)]
    texts += ["".join(map(chr, rng.choices(range(32, 127), k=rng.randrange(30)))) for _ in range(20_000)]
    texts += [row["answer"] for row in golds(request.getfixturevalue("shared_data"))]
    reply = subprocess.run(
        [python, "-c", REFEREE], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    theirs = json.loads(reply.stdout)
    for name, read in (("strict-match", answers.strict), ("flexible-extract", answers.flexible)):
        pairs = zip(texts, theirs[name], strict=True)
        wrong = [text for text, reading in pairs if (read(text) or "[invalid]") != reading]
        assert not wrong, f"{name}: {len(wrong)} of {len(texts)} differ, first {wrong[0]!r}"


def golds(shared_data):
    files = [shared_data / "gsm8k" / f"{split}.parquet" for split in ("train", "test")]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_every_gsm8k_gold_is_read(shared_data):
    rows = golds(shared_data)
    assert len(rows) == 7_473 + 1_319
    for row in rows:
        written = row["answer"].rpartition("#### ")[2].replace(",", "")
        assert Fraction(answers.answer(row["answer"])) == Fraction(written)


def test_right_and_wrong_are_as_the_authors_label_them(shared_data):
    rows = pq.read_table(shared_data / "gsm8k/solutions.parquet").to_pylist()
    marked = re.compile(r"^A: (.*)\Z", re.MULTILINE)

    def read(text):
        return answers.answer(marked.sub(r"#### \1", text))

    right = [answers.same(read(row["solution"]), read(row["ground_truth"])) for row in rows]
    assert len(rows) == 5_276 and right == [row["is_correct"] for row in rows]


@given(st.text(alphabet="#0123456789.,-−$%/= x\n<>*+", max_size=40))
def test_an_answer_is_its_own_canonical_spelling(text):
    read = answers.answer("#### " + text)
    if read is not None:
        assert answers.answer(f"#### {read}") == read
        assert answers.same(read, read)


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_same_is_equality_of_numbers(a, b):
    assert answers.same(str(a), str(b)) == (a == b)
    assert (answers.answer(f"#### {a}") == answers.answer(f"#### {b}")) == (a == b)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_spelling_of_a_number_does_not_matter(number):
    plain = f"{number:f}"
    for spelled in (plain, f"{number:,.6f}", f"${plain}".replace("$-", "-$"), plain.replace("-", "−")):
        assert answers.same(spelled, str(Fraction(number)))


def test_same_is_exact_and_never_of_nothing():
    assert not answers.same("0.1", "0.1000000000000000055")
    assert not answers.same("100000000000000000001", "100000000000000000002")
    assert answers.same("70,000", "70000") and answers.same("$1,234.00", "1234")
    assert not answers.same(None, None) and not answers.same("eggs", "eggs")


def test_command(tmp_path, monkeypatch, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "#### 1,234."}\n{"id": 7, "completion": "no\u2028idea"}\n', "utf-8")
    answers.main([str(rows)])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"strict": "1,234.", "flexible": "1,234.", "answer": "1234"},
        {"strict": None, "flexible": None, "answer": None},
    ]


@pytest.mark.parametrize("line", ["", "5", "{}", '{"completion": null}', '{"completion": "a"', "[]"])
def test_a_bad_row_is_named_and_nothing_is_printed(tmp_path, capsys, line):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "#### 1"}\n' + line + "\n")
    with pytest.raises(answers.UserError, match=r"rows\.jsonl.*line 2"):
        answers.main([str(rows)])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "line", [b'{"completion": "caf\xe9"}', b"\x80\xff", b'{"completion": ' + b"[" * 100_000]
)
def test_a_row_that_is_no_text_is_named(tmp_path, line):
    (tmp_path / "rows.jsonl").write_bytes(b'{"completion": "#### 1"}\n' + line + b"\n")
    with pytest.raises(answers.UserError, match=r"rows\.jsonl.*line 2"):
        answers.main([str(tmp_path / "rows.jsonl")])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(answers.UserError, match=r"absent\.jsonl"):
        answers.main([str(tmp_path / "absent.jsonl")])


def test_reading_is_cheap_and_needs_no_torch():
    code = "import sys, eval.grading.answers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    start = time.process_time()
    for hostile in (piece * 20_000 for piece in ("1", "1,", "#", "-", " ", "1 ", "=", "1/", "$")):
        for read in (answers.strict, answers.flexible, answers.answer):
            read("#### " + hostile)
    assert time.process_time() - start < 1
