#!/usr/bin/env bash
# Run what one arm still has to do, in order: bash scripts/arm.sh EXPERIMENT CONDITION SEED [--set … --name NEW]
source "$(dirname "$0")/common.sh"
if [[ ${NPROC:-1} -eq 1 && $(uname) != Darwin ]]; then # macOS' frameworks do not survive a fork
  exec python -m pipeline.arm "$@"
fi
todo=$(python -m pipeline todo "$@")
while read -r kind stage; do
  [[ -z $kind ]] || bash "scripts/$kind.sh" "${@:1:3}" "$stage" "${@:4}" </dev/null
done <<<"$todo"
