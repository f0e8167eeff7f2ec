"""One experiment is one file: read it, check it, and say what it will do and how far it is.

    python -m pipeline check  experiments/quickstart.yaml     # every error in one line, in under a second
    python -m pipeline plan   experiments/quickstart.yaml     # one independent command per arm, with its cost
    python -m pipeline status experiments/quickstart.yaml     # done, step 7,312/19,073 with ETA, or failed and why
    python -m pipeline download experiments/gpt2_124m.yaml    # fetch what it names, on a machine with network
    python -m pipeline todo   experiments/quickstart.yaml mul_tokens 0    # what this arm still has to run
    watch python -m pipeline status experiments/quickstart.yaml           # the same, every two seconds

A file holds a vocabulary, conditions, seeds, and stages with their hyperparameters. A condition has no place to
write a hyperparameter of its own, so arms are matched by construction: in compute by a budget of `steps`, `tokens` or
`flops`, in what they are shown by `examples`. `extends: other.yaml` inherits (mappings merge, `null` removes);
`--set stages.pretrain.lr=1e-3 --name NEW` makes the experiment NEW, whose resolved file is saved in runs/NEW/. Paths
of data are relative to DATA_DIR (default `data`); results land in RUNS (default `runs`).
"""

import argparse

from pipeline.errors import cli
from pipeline.experiment import add_experiment_arguments, load
from pipeline.hub import download
from pipeline.plan import print_plan
from pipeline.status import print_status, todo


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("check", "plan", "status", "todo", "download"):
        add_experiment_arguments(sub := commands.add_parser(command))
        if command == "todo":
            sub.add_argument("condition", metavar="CONDITION")
            sub.add_argument("seed", metavar="SEED", type=int)
    args = parser.parse_args(argv)
    experiment = load(args.experiment, args.set, args.name)
    if args.command == "plan":
        print_plan(experiment)
    elif args.command == "status":
        print_status(experiment)
    elif args.command == "todo":
        experiment.find_arm(args.condition, args.seed)
        for kind, stage in todo(experiment, args.condition, args.seed):
            print(kind, stage)
    elif args.command == "download":
        download(experiment)
    else:
        arms, stages = len(experiment.arms()), len(experiment.stage_names())
        print(f"{args.experiment}: {arms} arms of {stages} stages; no errors")


if __name__ == "__main__":
    cli(main)
