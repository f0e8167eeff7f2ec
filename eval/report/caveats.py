"""What a reader has to know before believing a comparison: the banner of its report.

Runs that are missing, failed or cannot be vouched for; code, libraries or devices that differed; problems
that were not asked; results on disk that the file does not plan.
"""

from eval.verdict.results import Study
from pipeline import sweep


def warnings(study: Study) -> list[str]:
    """What a reader has to know before believing the rest."""
    asked, said = study.question, []
    missing = [arm.name for arm in study.arms if asked.stage not in arm.items]
    if missing:
        said.append(f"Not evaluated after {asked.stage} yet: {_some(missing)}.")
    said += _made_differently(study, "source", "The pipeline's source code differed")
    said += _made_differently(study, "versions", "Versions of libraries differed")
    said += _made_differently(study, "device", "Devices differed")
    unverified: dict[str, list[str]] = {}
    for arm in study.arms:
        for name, result in arm.results.items():
            if result.state in ("failed", "stopped", "running"):
                said.append(f"{arm.name} {name} {result.state}: {result.detail}")
            elif result.state == "unverified":
                unverified.setdefault(f"{name}: {result.detail}", []).append(arm.name)
    said += [f"{what} ({_some(arms)})." for what, arms in unverified.items()]
    said += _skipped(study)
    said += _swept(study)
    if study.unplanned:
        results = _count(len(study.unplanned), "result")
        said.append(f"On disk but not part of this comparison: {results}, listed under Runs.")
    return said


def _skipped(study: Study) -> list[str]:
    """A line for every set and reason; every stage asks the same problems, so that the count is one too."""
    found: dict[tuple[str, str], list[int]] = {}
    for arm in study.arms:
        for summary in arm.summaries.values():
            for set_name, score in summary["sets"].items():
                for why, count in score["skipped"].items():
                    found.setdefault((set_name, why), []).append(count)
    return [
        f"Problems of {set_name} not asked: {_range(counts)} {why}, in {_count(len(counts), 'evaluation')}."
        for (set_name, why), counts in found.items()
    ]


def _swept(study: Study) -> list[str]:
    """What a sweep has chosen, and whether its values were wide enough."""
    asked = study.experiment.sweep
    done = sweep.read(study.experiment.name) if asked else None
    if asked is None or done is None:
        return []
    chosen = ", ".join(f"{name} {lr:g}" for name, lr in done["chosen"].items())
    seeds = f"seeds {', '.join(map(str, asked.seeds))}, which are not judged"
    line = f"Each condition has its own learning rate in {asked.stage}, the best of its sweep by {asked.metric} on {seeds}: {chosen}."
    ends = f" At an end of the values, so that the best may lie beyond: {', '.join(done['at_an_end'])}."
    return [line + (ends if done["at_an_end"] else "")]


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _made_differently(study: Study, key: str, what: str) -> list[str]:
    """A line for every split of the arms by a key of their records; one for all if only the stages differ."""
    splits: dict[str, list[str]] = {}
    seen = set()
    for name in study.experiment.stage_names():
        by_value: dict[str, list[str]] = {}
        for arm in study.arms:
            if key in (record := arm.results[name].record):
                by_value.setdefault(str(record[key]), []).append(arm.name)
        seen |= set(by_value)
        if len(by_value) > 1:
            splits.setdefault(" against ".join(map(_some, by_value.values())), []).append(name)
    if splits:
        return [f"{what} in {_some(stages)}: {split}." for split, stages in splits.items()]
    return [f"{what} between stages, though not between arms ({len(seen)} kinds)."] if len(seen) > 1 else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
