#!/usr/bin/env bash
# Every arm of an experiment, SLOTS at a time, and the verdict; run it again to go on.
#   bash scripts/study.sh EXPERIMENT
# SLOTS is the number of GPUs, or of cores where there is none: an arm has one GPU, or one thread, to itself.
bash "$(dirname "$0")/setup.sh"
source "$(dirname "$0")/common.sh"
experiment=$1
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
slots=${SLOTS:-$((gpus ? gpus : $(env -u OMP_NUM_THREADS nproc)))} # nproc heeds that variable
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # for small models two threads are no faster
export LOGS=${RUNS:-runs}/$(basename "$experiment" .yaml)/logs

arm() { # takes a line of the plan: bash scripts/arm.sh EXPERIMENT CONDITION SEED  # cost
  read -r _ _ _ condition seed _ <<<"${1#NPROC=* }"
  [[ $GPUS -eq 0 ]] || export CUDA_VISIBLE_DEVICES=$SLOT
  local log=$LOGS/$condition-s$seed.log said=done
  bash -c "$1" >"$log" 2>&1 || { said="failed: $(grep -m1 '^error:' "$log" || tail -n1 "$log")"; echo "$log" >>"$LOGS/failed"; }
  echo "$(date +%H:%M:%S) $condition-s$seed $said"
}
export -f arm
export GPUS=$gpus

python -m experiment check "$experiment"
mkdir -p "$LOGS" && rm -f "$LOGS/failed"
python -m experiment plan "$experiment" >"$LOGS/plan"
xargs -a "$LOGS/plan" -d '\n' -n 1 -P "$slots" --process-slot-var=SLOT bash -c 'arm "$1"' _
if [[ -f $LOGS/failed ]]; then
  echo "error: $(wc -l <"$LOGS/failed") arms failed, see $(head -n1 "$LOGS/failed"); mend it and run this again" >&2
  exit 1
fi
python -m eval.compare "$experiment"
