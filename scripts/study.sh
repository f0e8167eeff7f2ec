#!/usr/bin/env bash
# Every arm of an experiment, SLOTS at a time, and the verdict; run it again to go on.
#   bash scripts/study.sh EXPERIMENT [--set KEY=VALUE … --name NEW]
# Of a file with a `sweep` first the sweep's arms, then the choice, then the arms that are judged.
# SLOTS is as many arms as there are visible GPUs for (plan.devices for each) or, without any, as there are cores
# (a thread each). An arm's whole output is in RUNS/EXPERIMENT/logs/; what is shown is its progress.
bash "$(dirname "$0")/setup.sh"
source "$(dirname "$0")/common.sh"
[[ $# -gt 0 ]] || { echo "error: study.sh takes EXPERIMENT [--set KEY=VALUE … --name NEW]" >&2; exit 2; }
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # for small models two threads are no faster

arm() { # takes a line of the plan: [NPROC=N] bash scripts/arm.sh EXPERIMENT CONDITION SEED  # cost
  read -r _ _ file condition seed _ <<<"${1#NPROC=* }"
  local name=$condition-s$seed gpus=($GPUS)
  local log=${RUNS:-runs}/$(basename "$file" .yaml)/logs/$name.log message=done
  mkdir -p "$(dirname "$log")"
  [[ -z $GPUS ]] || CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${gpus[*]:SLOT*DEVICES:DEVICES}")
  [[ -z $GPUS ]] || export CUDA_VISIBLE_DEVICES
  # What reads outlives a signal: who saves a checkpoint has something to say first.
  bash -c "$1" 2>&1 | (trap '' INT TERM && exec tee "$log") | (trap '' INT TERM && exec grep --line-buffered "^$name ")
  if [[ ${PIPESTATUS[0]} -ne 0 ]]; then
    message="failed: $(grep -m1 '^error:' "$log" || tail -n1 "$log")"
    echo "$log" >>"$LOGS/failed"
  fi
  echo "$(date +%H:%M:%S) $name $message"
}
export -f arm

python -m pipeline check "$@"
plan=$(python -m pipeline plan "$@")
read -r _ _ experiment _ <<<"${plan#NPROC=* }" # with --set, the resolved file
own=$1 sweep=
for ((i = 1; i < $#; i++)); do
  [[ ${!i} != --name ]] || own=${*:i+1:1}.yaml
done
[[ $(basename "$experiment") == "$(basename "$own")" ]] || sweep=yes # whose experiments have names of their own
export LOGS=${RUNS:-runs}/$(basename "$own" .yaml)/logs
mkdir -p "$LOGS" && rm -f "$LOGS/failed"
DEVICES=$(sed -n 's/^NPROC=\([0-9]*\) .*/\1/p;q' <<<"$plan")
if [[ -n ${CUDA_VISIBLE_DEVICES+preset} ]]; then
  GPUS=${CUDA_VISIBLE_DEVICES//,/ }
else
  GPUS=$(nvidia-smi --list-gpus 2>/dev/null | awk '/^GPU /{printf "%d ", n++}' || true)
fi
export DEVICES=${DEVICES:-1} GPUS
count=$(wc -w <<<"$GPUS")
if [[ $count -gt 0 && $count -lt $DEVICES ]]; then
  echo "error: $experiment: plan.devices: an arm wants $DEVICES GPUs and $count are here; lower it, or see scripts/slurm/" >&2
  exit 2
fi
if [[ $count -gt 0 && $((${SLOTS:-1} * DEVICES)) -gt $count ]]; then
  echo "error: SLOTS=$SLOTS: so many arms at once want $((SLOTS * DEVICES)) GPUs and $count are here; lower it" >&2
  exit 2
fi
slots=${SLOTS:-$((count ? count / DEVICES : $(env -u OMP_NUM_THREADS nproc)))} # nproc heeds that variable
# The arms are a process group of their own, which a signal to this script ends as a whole.
setsid xargs -a <(echo "$plan") -d '\n' -n 1 -P "$slots" --process-slot-var=SLOT bash -c 'arm "$1"' _ &
arms=$!
trap 'kill -TERM -- "-$arms" 2>/dev/null; while kill -0 -- "-$arms" 2>/dev/null; do sleep 0.2; done; exit 143' INT TERM
wait "$arms" || true
if [[ -f $LOGS/failed ]]; then
  echo "error: $(wc -l <"$LOGS/failed") arms failed, see $(head -n1 "$LOGS/failed"); mend it and run this again" >&2
  exit 1
fi
if [[ -n $sweep ]]; then # which has run; then the arms that are judged
  python -m eval.verdict.sweep "$@"
  exec bash scripts/study.sh "$@"
fi
python -m eval.verdict.compare "$experiment"
