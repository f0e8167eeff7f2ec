#!/usr/bin/env bash
# bash scripts/verifier.sh EXPERIMENT CONDITION SEED STAGE
source "$(dirname "$0")/common.sh"
stage rl.verifier "$@"
