"""Metrics on a dashboard as well: TensorBoard or Weights & Biases, named by `report_to`.

Both are optional packages. The project is the experiment, the group the condition; a run that goes on after a
stop keeps its id. metrics.jsonl is written always, and is what everything else reads.
"""

from collections.abc import Callable

from pipeline import stage, world
from pipeline.files import digest
from pipeline.identity import section

Report = Callable[[dict[str, float]], None]


def mirror(run: stage.Run, kind: str, step: int) -> Report:
    """What to hand every line of metrics to. Raises UserError where the package is not installed."""
    if kind == "none" or world.RANK:
        return lambda metrics: None
    try:
        return {"tensorboard": _tensorboard, "wandb": _wandb}[kind](run, step)
    except ImportError:
        run.refuse("report_to", f"{kind} is not installed; run: .venv/bin/pip install {kind}, or say none")


def _tensorboard(run: stage.Run, step: int) -> Report:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.dir / "tensorboard"), purge_step=step + 1)

    def report(metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, metrics["step"])
        writer.flush()

    return report


def _wandb(run: stage.Run, step: int) -> Report:
    import wandb

    names = {
        "project": run.experiment.name,
        "group": run.condition,
        "name": f"{run.condition}-s{run.seed} {run.name}",
    }
    identity = digest([run.identity, str(run.dir)])[:16]
    wandb.init(**names, id=identity, resume="allow", dir=str(run.dir), config=section(run.spec))
    return lambda metrics: wandb.log(metrics, step=metrics["step"])
