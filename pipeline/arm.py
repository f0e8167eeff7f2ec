"""Run what an arm still has to do, in order; scripts/arm.sh does it where one process is enough.

    python -m pipeline.arm experiments/quickstart.yaml mul_tokens 0

Each stage is a process of its own, as if its script had been called: locks, results and failures are the same. But the
process is forked from one that has imported every stage's libraries, which takes longer than many a small stage.
"""

import argparse
import gc
import importlib
import os
import signal
import sys

from pipeline.errors import cli
from pipeline.experiment import add_experiment_arguments, load
from pipeline.kinds import KINDS
from pipeline.provenance import code
from pipeline.status import todo


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.arm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_arguments(parser)
    parser.add_argument("condition", metavar="CONDITION")
    parser.add_argument("seed", metavar="SEED", type=int)
    args = parser.parse_args(argv)
    experiment = load(args.experiment, args.set, args.name)
    experiment.find_arm(args.condition, args.seed)
    stages = todo(experiment, args.condition, args.seed)
    code()  # what is imported now is what every stage runs, whatever is committed meanwhile
    for kind in dict.fromkeys(kind for kind, _ in stages):
        for module in (KINDS[kind].module, *KINDS[kind].libraries):
            importlib.import_module(module)
    gc.freeze()  # the forks share its memory, and collect no garbage there
    for kind, stage in stages:
        run(KINDS[kind].module, [experiment.path, args.condition, str(args.seed), stage])


def run(module: str, argv: list[str]) -> None:
    """Run a stage's main in a fork. Exits where the stage fails, with its exit code or 128 + its signal, and after
    SIGTERM, which the stage is told: pretraining then saves and ends with 0."""
    child, told = 0, []

    def tell(number: int, frame: object) -> None:
        told.append(number)
        if child:
            os.kill(child, number)

    before = signal.signal(signal.SIGTERM, tell)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, before)
        if told:
            sys.exit(128 + signal.SIGTERM)
        sys.argv = [f"{module.replace('.', '/')}.py", *argv]  # what the record shows
        cli(lambda: importlib.import_module(module).main(argv))
        sys.exit(0)
    result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, before)
    if result or told:
        sys.exit(result if result > 0 else 128 - result if result else 128 + signal.SIGTERM)


if __name__ == "__main__":
    cli(main)
