#!/usr/bin/env bash
# lm-evaluation-harness scores the same rows, and the two are compared row by row: see scripts/referee.py. It changes
# pins, so it gets an environment of its own, .venv-referee, made on the first call and again when our versions
# of torch and transformers, which it shares, have changed.
#   bash scripts/referee.sh MODEL_DIR --gsm8k gsm8k/test.parquet --hellaswag hellaswag/validation.parquet
source "$(dirname "$0")/common.sh"
ours() { python -c "from importlib.metadata import version; print(version('$1'))"; }
torch=$(ours torch)
harness=("lm_eval[hf]==0.4.13" "transformers==$(ours transformers)" "torch==$torch")
if [[ "$(cat .venv-referee/installed 2>/dev/null)" != "${harness[*]}" ]]; then
  echo "referee: installing ${harness[*]} into .venv-referee (a few minutes)" >&2
  python -m venv .venv-referee
  pip() { .venv-referee/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
  pip "torch==$torch" 2>/dev/null || pip "torch==$torch" --index-url "https://download.pytorch.org/whl/${torch#*+}"
  pip "${harness[@]}"
  echo "${harness[*]}" > .venv-referee/installed
fi
python -m scripts.referee "$@"
