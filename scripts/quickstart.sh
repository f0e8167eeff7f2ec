#!/usr/bin/env bash
# The main job: both conditions through every stage, side by side, and a verdict. Minutes on two cores.
#   bash scripts/quickstart.sh [EXPERIMENT] [--set KEY=VALUE … --name NEW]
[[ ${1:---} != --* ]] || set -- experiments/quickstart.yaml "$@"
exec bash "$(dirname "$0")/study.sh" "$@"
