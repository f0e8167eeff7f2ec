"""python -m tests.eval.synthetic RUNS [EFFECT]

A finished experiment without any training: every stage goes through the stage contract with tiny files, and
the answers are real solutions of generated problems, spoilt at random. For the tests of comparison and
report; from the command line it writes a larger one into RUNS and compares it, so that its report can be
looked at.
"""

import functools
import json
import os
import random
import re
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from eval import outcomes, samples
from eval.grading import errors
from eval.tasks import gsm8k, probes
from eval.tasks import task as asked
from pipeline import stage
from pipeline.experiment import Experiment, load
from pipeline.files import ROOT, write_json
from tokenizer import encode
from tokenizer.conditions import Condition

FILE = """
extends: {quickstart}
conditions: {conditions}
seeds: {seeds}
stages: {{sft_tulu: null, sft_gsm8k: null, sft_tinygsm: {{from: export}}, sft_curriculum: null}}
eval: {{probes: {probes}, sets: {{word_problems: {{limit: {problems}}}, hellaswag: {{limit: 40}}}}}}
compare: {{secondary: {secondary}, margin: 0.02}}
"""
LEVEL = {"export": 0.02, "sft_tinygsm": 0.35, "grpo": 0.45}  # accuracy after a stage


def write_file(
    path: Path, conditions=("baseline", "mul_tokens"), seeds=6, problems=40, secondary=(), probes=True
) -> Path:
    """An experiment's YAML, the quickstart with fewer stages. A condition's mode is known by its name."""
    modes = {
        "baseline": "plain",
        "mul_tokens": "token",
        "mul_echo": "echo",
        "placebo": "placebo",
        "product_only": "value",
    }
    words = {
        "quickstart": ROOT / "experiments/quickstart.yaml",
        "problems": problems,
        "seeds": list(range(seeds)),
    }
    words["probes"] = str(probes).lower()
    words["conditions"] = json.dumps({name: {"mode": modes[name]} for name in conditions})
    path.write_text(FILE.format(**words, secondary=json.dumps([list(pair) for pair in secondary])))
    return path


@contextmanager
def quick(source="one"):
    """Without what costs a tenth of a second a stage, and with a source code of that name."""
    record = {
        "commit": "0" * 40,
        "source": source,
        "device": "cpu",
        "world_size": 1,
        "host": "here",
        "started": time.time() - 60,
        "versions": {},
    }
    with mock.patch.object(stage, "provenance", lambda: dict(record)):
        yield


def run(path: Path, condition: str, seed: int, effect: float = 0.0, until: str | None = None) -> None:
    """Every stage of an arm; the last ones are left out behind `until`. `effect` is on the share right."""
    experiment = load(path)
    for name in experiment.stage_names():
        finish(experiment, path, condition, seed, name, effect)
        if name == until:
            return


def finish(
    experiment: Experiment, path: Path, condition: str, seed: int, name: str, effect: float, *words: str
) -> None:
    kind = experiment.kind(name)
    with stage.begin(kind, [str(path), condition, str(seed), name.removeprefix("eval_"), *words], "") as work:
        if work is None:  # prepared data, shared by seeds
            return
        if kind == "eval":
            return evaluate(work, effect)
        (work.dir / "model").mkdir(exist_ok=True)
        (work.dir / "model/model.safetensors").write_text(f"{condition} {seed} {name}")
        record = {
            "tokens": 100_000,
            "examples": 800,
            "facts_per_example": 1.5 if condition != "baseline" else 0.0,
        }
        if kind != "prepare":
            record["flops"] = 1e12
        MAKE.get(kind, lambda work, record: None)(work, record)
        work.finish(["model/model.safetensors"], **record)


def prepare(work: stage.Run, record: dict) -> None:
    facts = Condition.of(work.experiment, work.condition).facts.FACTS
    train = {
        "documents": 900,
        "tokens": 95_000,
        "plain_tokens": 100_000,
        "facts": 2_000,
        "source_bytes": 400_000,
    }
    write_json(work.dir / "index.json", {"train": train})
    audit = {"plain_tokens": 100_000, "facts": {fact: 1 + 7 * i % 60 for i, fact in enumerate(facts)}}
    write_json(work.dir / "audit.json", audit)


def pretrain(work: stage.Run, record: dict) -> None:
    chance = random.Random(f"{work.condition} {work.seed}")
    for step in range(50, 1171, 50):
        bits = 1.2 + 3 * step**-0.35 + 0.01 * chance.random()
        work.log(step=step, val_loss=bits, val_bits_per_byte=bits, val_bits_per_byte_without_facts=bits + 0.1)


def grpo(work: stage.Run, record: dict) -> None:
    chance = random.Random(f"{work.condition} {work.seed}")
    for step in range(1, 21):
        reward = 0.3 + 0.01 * step + 0.1 * chance.random()
        work.log(
            step=step,
            loss=0.0,
            reward=reward,
            reward_std=0.1,
            reward_correct=reward - 0.1,
            zero_variance=0.3,
            length=40.0,
        )
        if step % 5 == 0:
            solved = {"dev_accuracy": reward / 2, "dev_pass@1": reward / 3, "dev_pass@4": reward}
            work.log(step=step, dev_loss=2 - reward, dev_problems=200, **solved)
    record["prompts"] = {
        "drawn": 200,
        "too long": 2,
        "kept": 120,
        "never solved": 60,
        "always solved": 18,
        "used all the same": 0,
    }


MAKE = {"prepare": prepare, "pretrain": pretrain, "grpo": grpo}


# --- evaluations --------------------------------------------------------------------------------------------


def evaluate(work: stage.Run, effect: float) -> None:
    encoder, level = (
        encoder_of(Condition.of(work.experiment, work.condition)),
        LEVEL[work.name.removeprefix("eval_")],
    )
    chance = random.Random(f"{work.condition} {work.seed} {work.name}")
    rows = [answer(encoder, chance, *item) for item in items(encoder, work.spec, level, effect)]
    rows += [hellaswag(chance, i) for i in range(work.spec.sets["hellaswag"].limit)]
    summary = outcomes.summarise(rows, {name: Counter() for name in work.spec.sets})
    bits = 1.4 + 0.1 * chance.random()
    summary["bits_per_byte"] = {part: {"bits_per_byte": bits} for part in ("all", "without_facts")}
    asked = 20 if len(encoder.fact_ids) > 1 else 0
    summary["patching"] = (
        {"word_problems": {"asked": asked, "follows": 14, "stays": 4, "other": 2}} if asked else {}
    )
    files = outcomes.write(work.dir, rows, summary)
    if work.spec.samples:
        files += samples.write(work.dir, draws(work, rows, effect, level))
    work.finish(files, tokens=1, examples=len(rows))


def draws(work: stage.Run, rows: list[dict], effect: float, level: float) -> list[dict]:
    """Samples of the word problems: each right with the chance that its greedy answer had, its score telling much."""
    chance = random.Random(f"samples {work.condition} {work.seed} {work.name}")
    drawn = []
    for i, row in enumerate(row for row in rows if row["set"] == "word_problems"):
        difficulty = 0.9 * random.Random(i).random() - 0.45
        answers = [
            row["gold"]
            if chance.random() < level + difficulty * min(1, 4 * level) + effect
            else str(10**9 + n % 3)
            for n in range(work.spec.samples)
        ]
        for n, answer in enumerate(answers):
            right = answer == row["gold"]
            own = {"set": row["set"], "id": row["id"], "sample": n, "tokens": row["tokens"], "correct": right}
            own |= {"answer": answer, "vote": answers.index(answer), "ended": True, "cut": False}
            own |= {
                "completion": f"#### {answer}",
                "score": chance.gauss(1.5 * right, 1) if work.spec.verifier else None,
            }
            drawn.append(own)
    return drawn


encoder_of = functools.cache(encode.Encoder)


@functools.cache
def problems(limit: int) -> list[asked.Question]:
    return asked.load(gsm8k.TASK, "sample", "test", limit=limit)[0]


def items(encoder: encode.Encoder, spec, level: float, effect: float):
    """(set, question, gold, solution, chance that it is right) of everything that is asked."""
    for i, problem in enumerate(problems(spec.sets["word_problems"].limit)):
        difficulty = 0.9 * random.Random(i).random() - 0.45  # the same for every model
        yield (
            "word_problems",
            problem.question,
            problem.gold,
            problem.solution,
            level + difficulty * min(1, 4 * level) + effect,
        )
    for kind, pairs in probes.probes(encoder.condition).items() if spec.probes else ():
        for expression, value in pairs:
            yield (
                f"probes.{kind}",
                probes.question(expression),
                value,
                f"{expression} = {value}\n#### {value}",
                level + effect,
            )


def answer(
    encoder: encode.Encoder,
    chance: random.Random,
    name: str,
    question: str,
    gold: str,
    solution: str,
    right: float,
) -> dict:
    gold_bytes = len(solution.encode())
    needs_facts = bool(encoder.condition.facts.find(solution))
    if chance.random() > right:
        solution = spoilt(chance, solution)
    reply = [*encoder.encode_facts(f" {solution}"), encoder.eos]
    completion = encoder.render(reply)
    graded = (probes if name.startswith("probes.") else gsm8k).grade(completion, gold)
    written = errors.equations(completion)
    row = {
        "set": name,
        "id": asked.item_id(question),
        "question": question,
        "gold": gold,
        "tokens": reply,
        "completion": completion,
    }
    row |= graded | {
        "error": errors.classify(written, graded["answer"], graded["correct"]),
        "equations": len(written),
    }
    row |= {
        "equations_true": sum(map(errors.is_true, written)),
        "facts": encoder.count_facts(reply),
        "ended": True,
        "cut": False,
    }
    row["facts_written"] = len(encoder.condition.facts.find(completion))
    if name == "word_problems":
        bits = 80 * (1.5 - right) + chance.random()
        row |= {"gold_bits": bits, "gold_bytes": gold_bytes} if encoder.condition.invertible else {}
        row |= {"seen": len(question) % 2 == 0, "fact_bearing": needs_facts, "fact_bearing_decomposed": True}
    return row


def spoilt(chance: random.Random, solution: str) -> str:
    """A wrong solution: without an answer, with a slip, or with another plan."""
    how = chance.choice(["no answer", "slip", "plan", "plan"])
    before, _, value = solution.rpartition("#### ")
    if how == "no answer" or not re.fullmatch(r"-?[\d,]+", value):
        return f"{before}So there are many."
    wrong = f"{int(value.replace(',', '')) + chance.randint(1, 9)}"
    return f"{before.replace(f'= {value}', f'= {wrong}') if how == 'slip' else before}#### {wrong}"


def hellaswag(chance: random.Random, i: int) -> dict:
    row = {
        "set": "hellaswag",
        "id": f"h{i}",
        "question": f"Row {i}",
        "gold": str(i % 4),
        "correct": chance.random() < 0.3,
    }
    return row | {"loglikelihoods": [-1.0] * 4, "acc": False, "acc_per_token": False}


def main(argv: list[str] | None = None) -> None:
    from eval.verdict import compare

    runs, effect = [*(sys.argv[1:] if argv is None else argv), "0.03"][:2]
    os.environ["RUNS"] = runs
    conditions = ("baseline", "mul_tokens", "mul_echo", "placebo")
    path = Path(runs) / "synthetic.yaml"
    secondary = [("mul_echo", "placebo"), ("mul_echo", "baseline"), ("placebo", "baseline")]
    write_file(path, conditions, 6, 400, secondary)
    effects = {"mul_tokens": float(effect), "mul_echo": 0.01}
    with quick():
        for seed in range(6):
            for condition in conditions:
                run(path, condition, seed, effects.get(condition, 0.0))
    compare.main([str(path)])


if __name__ == "__main__":
    main()
