#!/usr/bin/env bash
# Every arm of an experiment, SLOTS at a time, and the verdict; run it again to go on.
#   bash scripts/study.sh EXPERIMENT
# SLOTS is as many arms as there are GPUs for (plan.devices for each) or, without any, as there are cores (a thread each).
bash "$(dirname "$0")/setup.sh"
source "$(dirname "$0")/common.sh"
experiment=$1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # for small models two threads are no faster
export LOGS=${RUNS:-runs}/$(basename "$experiment" .yaml)/logs

arm() { # takes a line of the plan: [NPROC=N] bash scripts/arm.sh EXPERIMENT CONDITION SEED  # cost
  read -r _ _ _ condition seed _ <<<"${1#NPROC=* }"
  [[ $GPUS -eq 0 ]] || export CUDA_VISIBLE_DEVICES=$(seq -s, $((SLOT * DEVICES)) $((SLOT * DEVICES + DEVICES - 1)))
  local log=$LOGS/$condition-s$seed.log said=done
  bash -c "$1" >"$log" 2>&1 || { said="failed: $(grep -m1 '^error:' "$log" || tail -n1 "$log")"; echo "$log" >>"$LOGS/failed"; }
  echo "$(date +%H:%M:%S) $condition-s$seed $said"
}
export -f arm

python -m pipeline check "$experiment"
mkdir -p "$LOGS" && rm -f "$LOGS/failed"
python -m pipeline plan "$experiment" >"$LOGS/plan"
DEVICES=$(sed -n 's/^NPROC=\([0-9]*\) .*/\1/p;q' "$LOGS/plan")
export DEVICES=${DEVICES:-1} GPUS=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
if [[ $GPUS -gt 0 && $GPUS -lt $DEVICES ]]; then
  echo "error: $experiment: plan.devices: an arm wants $DEVICES GPUs and $GPUS are here; lower it, or see scripts/slurm/" >&2
  exit 2
fi
slots=${SLOTS:-$((GPUS ? GPUS / DEVICES : $(env -u OMP_NUM_THREADS nproc)))} # nproc heeds that variable
xargs -a "$LOGS/plan" -d '\n' -n 1 -P "$slots" --process-slot-var=SLOT bash -c 'arm "$1"' _
if [[ -f $LOGS/failed ]]; then
  echo "error: $(wc -l <"$LOGS/failed") arms failed, see $(head -n1 "$LOGS/failed"); mend it and run this again" >&2
  exit 1
fi
python -m eval.verdict.compare "$experiment"
