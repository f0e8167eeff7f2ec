"""Push an experiment's finished models and its report to the Hugging Face Hub.

    python -m eval.report.publish experiments/quickstart.yaml ORG --dry-run   # what would go; no network, no token
    python -m eval.report.publish experiments/quickstart.yaml ORG             # private repositories
    python -m eval.report.publish experiments/quickstart.yaml ORG --public

Of every finished arm, the model of each stage goes to the repository ORG/EXPERIMENT-CONDITION-sSEED-STAGE,
and runs/EXPERIMENT/report/ to the dataset ORG/EXPERIMENT-report. What goes of a model are the files that its
stage.json names, and only if all outputs of the stage still have their SHA-256; whatever stays is named. Each
goes with a card (eval/report/cards.py). A
repository is made private unless --public is given; one that exists keeps its visibility. The report names
the hosts that the arms ran on. Nothing on disk is changed, and after an error it can be run again.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from eval.report import cards
from eval.verdict.collect import collect
from eval.verdict.results import Arm, Result
from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.experiment import Experiment, load
from pipeline.files import read_json, runs_dir


@dataclass
class Repository:
    """A folder on its way to the Hub. Raises UserError if the Hub would not take the name."""

    name: str  # ORG/NAME
    kind: str  # model or dataset
    folder: Path
    files: list[str]  # of the folder, those that go
    card: str  # goes as README.md in the place of the folder's own

    def __post_init__(self):
        try:
            validate_repo_id(self.name)
        except HFValidationError as error:
            raise UserError(f"{self.name}: the Hub takes no such name: {error}") from None

    def sizes(self) -> dict[str, int]:
        sizes = {name: (self.folder / name).stat().st_size for name in self.files}
        return sizes | {"README.md": len(self.card.encode())}


# --- what goes ----------------------------------------------------------------------------------------------


def models(experiment: Experiment, org: str) -> tuple[list[Repository], list[str]]:
    """(what goes, what stays and why, in words). Raises UserError where `collect` does."""
    goes, stays, unfinished = [], [], []
    study = collect(experiment)
    for arm in study.arms:
        if left := _unfinished(arm):
            unfinished.append(f"{arm.name} ({left})")
            continue
        for name in study.model_stages():
            result = arm.results[name]
            try:
                stage.verify(result.directory)
            except UserError as error:
                stays.append(f"{arm.name} {name}: {error}")
                continue
            files, others = _files(result)
            stays += [f"{arm.name} {name}: model/{other}: is not in its stage.json" for other in others]
            if files:
                card = cards.model(study, arm, name, org)
                repository = cards.repository(experiment, org, arm, name)
                goes.append(Repository(repository, "model", result.directory / "model", files, card))
    if unfinished:
        stays.append(f"{len(unfinished)} of {len(study.arms)} arms, unfinished: {', '.join(unfinished)}")
    return goes, stays


def _unfinished(arm: Arm) -> str:
    """The first stage that is not done, and how far it is; empty if the arm is finished.

    Shards may be gone, as for the report: what was made of them is finished all the same.
    """
    for name, result in arm.results.items():
        if result.state not in ("done", "unverified"):
            return f"{name} {result.state}"
    return ""


def _files(result: Result) -> tuple[list[str], list[str]]:
    """(files of a stage's model/ that its stage.json names, the others there)."""
    named = [name.removeprefix("model/") for name in result.identity["outputs"] if name.startswith("model/")]
    there = _below(result.directory / "model")
    return named, [name for name in there if name not in named]


def report(experiment: Experiment, org: str) -> Repository:
    """Raises UserError if there is no report."""
    folder = runs_dir() / experiment.name / "report"
    if not (folder / "report.html").exists():
        raise UserError(f"{folder}: no report; run: bash scripts/compare.sh {experiment.path}")
    name, content = f"{org}/{experiment.name}-report", read_json(folder / "report.json")
    card = cards.dataset(experiment, name, content["sentence"])
    return Repository(name, "dataset", folder, _below(folder), card)


def _below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- in words, and on its way -------------------------------------------------------------------------------


def listing(goes: list[Repository], stays: list[str]) -> str:
    lines, total, count = [], 0, 0
    for repository in goes:
        sizes = repository.sizes()
        total, count = total + sum(sizes.values()), count + len(sizes)
        lines.append(f"{repository.kind} {repository.name}: {len(sizes)} files, {_size(sum(sizes.values()))}")
        lines += [f"    {name}  {_size(size)}" for name, size in sizes.items()]
    lines.append(f"goes: {len(goes)} repositories, {count} files, {_size(total)}")
    return "\n".join([*lines, *(f"stays: {line}" for line in stays)])


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def push(goes: list[Repository], private: bool) -> None:
    """Raises UserError where the Hub refuses or cannot be reached; repositories before that one are there."""
    api = HfApi()
    for repository in goes:
        place = {"repo_id": repository.name, "repo_type": repository.kind}
        message = f"{repository.name.partition('/')[2]}, as it was made"
        try:
            api.create_repo(**place, private=private, exist_ok=True)
            api.upload_folder(
                **place,
                folder_path=repository.folder,
                allow_patterns=repository.files,
                ignore_patterns=["README.md"],
                commit_message=message,
            )
            api.upload_file(
                **place,
                path_or_fileobj=repository.card.encode(),
                path_in_repo="README.md",
                commit_message="Card with the scores",
            )
        except Exception as error:  # huggingface_hub, httpx and its upload library raise many kinds
            reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            raise UserError(f"{repository.name}: {reason}; mend it and run this again") from None
        print(f"pushed {repository.kind} {repository.name}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.report.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="EXPERIMENT")
    parser.add_argument("org", metavar="ORG", help="the organisation or user on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="list what would go, and send nothing")
    parser.add_argument("--public", action="store_true", help="make new repositories public")
    args = parser.parse_args(argv)
    experiment = load(args.experiment)
    goes, stays = models(experiment, args.org)
    if not goes:
        raise UserError("; ".join([f"{experiment.path}: no finished model to publish", *stays]))
    goes.append(report(experiment, args.org))
    print(listing(goes, stays))
    if args.dry_run:
        return
    if get_token() is None:
        raise UserError("no Hugging Face token; run: hf auth login")
    push(goes, private=not args.public)


if __name__ == "__main__":
    cli(main)
