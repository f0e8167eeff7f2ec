"""Run what an arm still has to do, in order; scripts/arm.sh does it where one process is enough.

    python -m pipeline.arm experiments/quickstart.yaml mul_tokens 0

Each stage is a process of its own, as if its script had been called: locks, results and failures are the same. But the
process is forked from one that has imported every stage's libraries, which takes longer than many a small stage.
"""

import argparse
import importlib
import os
import signal
import sys

from pipeline.errors import cli
from pipeline.experiment import add_experiment_arguments, load
from pipeline.kinds import KINDS
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
    for kind in dict.fromkeys(kind for kind, _ in stages):
        for module in (KINDS[kind].module, *KINDS[kind].libraries):
            importlib.import_module(module)
    for kind, stage in stages:
        run(KINDS[kind].module, [experiment.path, args.condition, str(args.seed), stage])


def run(module: str, argv: list[str]) -> None:
    """Run a stage's main in a fork. Exits where the stage fails, with its exit code or 128 + its signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        sys.argv = [f"{module.replace('.', '/')}.py", *argv]  # what the record shows
        cli(lambda: importlib.import_module(module).main(argv))
        sys.exit(0)
    forward = signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, forward)
    if code:
        sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    cli(main)
