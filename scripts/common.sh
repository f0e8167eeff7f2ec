# Sourced by every script: the repository's root, its environment, and how a stage is started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -f .venv/installed ]] || bash scripts/setup.sh
source .venv/bin/activate
export PYTHONPATH=$PWD
# Seconds that torchrun leaves its processes to save a checkpoint after SIGTERM; its own 30 are too few.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}

# stage MODULE EXPERIMENT CONDITION SEED [STAGE] [--overwrite]: one process, or NPROC of them under torchrun.
stage() {
  python -m pipeline check "${@:2:1}" >/dev/null
  if [[ ${NPROC:-1} -gt 1 ]]; then
    torchrun --standalone --nproc_per_node="$NPROC" -m "$@"
  else
    python -m "$@"
  fi
}
