#!/usr/bin/env bash
# The main job: both conditions through every stage, side by side, and a verdict. About 6 minutes on two cores.
#   bash scripts/quickstart.sh [EXPERIMENT]
bash "$(dirname "$0")/setup.sh"
source "$(dirname "$0")/common.sh"
experiment=${1:-experiments/quickstart.yaml}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # one thread an arm: for small models two are no faster

logs=${RUNS:-runs}/$(basename "$experiment" .yaml)/logs
mkdir -p "$logs"
plan=$(python -m pipeline plan "$experiment")
pids=()
trap 'for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done' INT TERM # an arm is a process group
while read -r line; do
  read -r _ _ _ condition seed _ <<<"${line#NPROC=* }"
  setsid bash -c "$line" >"$logs/$condition-s$seed.log" 2>&1 &
  pids+=($!)
done <<<"$plan"
python -m pipeline status "$experiment" --watch "${pids[@]}"
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
if [[ $failed -ne 0 ]]; then
  python -m pipeline status "$experiment"
  grep -h '^error:' "$logs"/*.log >&2 || tail -n 5 "$logs"/*.log >&2
  echo "error: an arm failed; its log is in $logs; mend it and run this again" >&2
  exit 1
fi
python -m eval.verdict.compare "$experiment"
