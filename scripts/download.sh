#!/usr/bin/env bash
# bash scripts/download.sh EXPERIMENT.yaml: fetch the Hub data that it names into DATA_DIR (default data/), once, on a
# machine with network; it says what it needs first, and goes on where it stopped.
source "$(dirname "$0")/common.sh"
python -m pipeline download "$@"
