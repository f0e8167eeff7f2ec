"""The cards that go to the Hub with a model and with a report: what it is, what it scores, how it is asked."""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from eval.report.figures import summary
from eval.report.scales import percent
from eval.verdict.results import Arm, Study
from pipeline.experiment import Experiment
from pipeline.rows import is_hub_id
from tokenizer.conditions import Condition

LICENSE = "mit"
MODEL = """# {title}

GPT-2 trained by `{path}`: condition `{condition}` ({mode}), seed {seed}, after the stage `{stage}`.
It is one of {arms} arms that were trained to be compared; the report is
[{report}](https://huggingface.co/datasets/{report}).

## How to ask it

Prompts end at `Assistant:`, without a space behind it; an answer ends with the end-of-text token.

```
{prompt}
```

```python
from transformers import pipeline

ask = pipeline("text-generation", model="{name}")
prompt = {prompt!r}
print(ask(prompt, max_new_tokens=64, return_full_text=False)[0]["generated_text"])
```

{tokens}

## Scores

{scores}

Intervals are Wilson's, for other problems like these; they say nothing about other seeds. The floor is what the best
constant answer scores.
{made}"""
DATASET = """# {title}: the report

{sentence}

Every outcome behind it is in `outcomes.parquet`, a row for every problem that a model was asked: `experiment`,
`condition`, `seed`, `stage`, `set`, `id` and whether it was `correct`. `report.html` is the report to read,
`report.json` its figures, `figures/` the drawings and their tables.

```python
from datasets import load_dataset

outcomes = load_dataset("{name}", data_files="outcomes.parquet", split="train").to_pandas()
print(outcomes.groupby(["stage", "set", "condition"]).correct.mean())
```
"""


def model(study: Study, arm: Arm, stage: str, org: str) -> str:
    """The README.md of a stage's model."""
    experiment = study.experiment
    name = repository(experiment, org, arm, stage)
    condition = experiment.conditions[arm.condition]
    results = list(_scores(experiment, arm, stage))
    data = ModelCardData(
        language="en",
        license=LICENSE,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=_base(study, org, arm, stage),
        datasets=_datasets(experiment, stage) or None,
        tags=["gpt2", "arithmetic", experiment.name, arm.condition],
        model_name=name.partition("/")[2],
        eval_results=results or None,
    )
    tokens = "Ids that this condition never trains are suppressed by `generation_config.json`."
    if Condition.of(experiment, arm.condition).trained:
        tokens += " An answer can hold fact tokens such as `<MUL_6_9_54>`, each one a whole fact."
    lines = [f"| {each.dataset_name} | {each.metric_name} | {each.metric_value:.4f} |" for each in results]
    text = MODEL.format(
        title=name.partition("/")[2], path=experiment.path, condition=arm.condition, mode=condition.mode,
        seed=arm.seed, stage=stage, arms=len(study.arms), report=f"{org}/{experiment.name}-report", name=name,
        prompt="User: What is 6 * 9?\nAssistant:", tokens=tokens, made=_made(arm.results[stage].directory),
        scores="\n".join(["| problems | measure | value |", "| --- | --- | --- |", *lines]) if lines else "None yet.",
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def dataset(experiment: Experiment, name: str, sentence: str) -> str:
    """The README.md of a report."""
    data = DatasetCardData(
        language="en",
        license=LICENSE,
        pretty_name=f"{experiment.name}: outcomes and report",
        tags=["evaluation", "arithmetic", experiment.name],
        configs=[{"config_name": "default", "data_files": "outcomes.parquet"}],
    )
    return (
        f"---\n{data.to_yaml()}\n---\n\n{DATASET.format(title=experiment.name, name=name, sentence=sentence)}"
    )


def repository(experiment: Experiment, org: str, arm: Arm, stage: str) -> str:
    return f"{org}/{experiment.name}-{arm.name}-{stage}"


def _scores(experiment: Experiment, arm: Arm, stage: str) -> Iterator[EvalResult]:
    for key in arm.items.get(stage, ()):
        score, problems = summary(arm, stage, key), experiment.eval.sets.get(key)
        interval = f"95% interval {percent(score['low'])} to {percent(score['high'])}"
        yield EvalResult(
            task_type="text-generation",
            dataset_type=problems.data if problems and is_hub_id(problems.data) else "generated",
            dataset_name=key,
            dataset_config=key,  # or sets of one type would be listed as one
            dataset_split=problems.split if problems else None,
            metric_type="accuracy",
            metric_name=f"accuracy ({interval}; n = {score['n']}, floor {percent(score['floor'])})",
            metric_value=score["accuracy"],
        )


def _base(study: Study, org: str, arm: Arm, stage: str) -> str | None:
    """What the model goes on from: public weights, or the model of its parent stage."""
    if base := getattr(study.experiment.stages[stage], "base", None):
        return base if is_hub_id(base) else None
    parent = study.experiment.parent(stage)
    return repository(study.experiment, org, arm, parent) if parent in study.model_stages() else None


def _datasets(experiment: Experiment, stage: str) -> list[str]:
    """The data sets of the Hub that the stage and those above it were trained on."""
    names: list[str] = []
    while stage in experiment.stages:
        spec = experiment.stages[stage]
        parts = [spec, *(getattr(spec, "phases", None) or [])]
        names += [part.data for part in parts if isinstance(getattr(part, "data", None), str)]
        stage = experiment.parent(stage)
    return sorted({name for name in names if is_hub_id(name)})


def _made(directory: Path) -> str:
    """What the stage itself wrote about how the model was made."""
    path = directory / "model/README.md"
    body = path.read_text(encoding="utf-8").rpartition("\n---\n")[2].strip() if path.exists() else ""
    return f"\n## How it was made\n\n{body.partition(chr(10))[2].strip()}\n" if body else ""
