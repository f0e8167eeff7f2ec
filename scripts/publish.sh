#!/usr/bin/env bash
# bash scripts/publish.sh EXPERIMENT ORG [--dry-run] [--public]: models and report to the Hugging Face Hub
source "$(dirname "$0")/common.sh"
python -m eval.report.publish "$@"
