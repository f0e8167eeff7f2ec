#!/usr/bin/env bash
# bash scripts/compare.sh EXPERIMENT [EXPERIMENT]
source "$(dirname "$0")/common.sh"
python -m eval.verdict.compare "$@"
