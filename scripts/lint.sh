#!/usr/bin/env bash
# Format, lint and types: bash scripts/lint.sh [--fix]
bash "$(dirname "$0")/setup.sh"
source "$(dirname "$0")/common.sh"
if [[ ${1:-} == --fix ]]; then
  ruff check --fix .
  ruff format .
fi
ruff check .
ruff format --check .
mypy pipeline tokenizer eval/verdict eval/grading rl/rewards.py
