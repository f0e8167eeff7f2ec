#!/usr/bin/env bash
# Everything a fresh machine needs, into .venv/ and .cache/; a second run takes no time. Python >= 3.11.
#   bash scripts/setup.sh
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=$(cat requirements.txt scripts/setup.sh | cksum)
if [[ ! -x .venv/bin/python || "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "error: $python is not Python 3.11 or newer; set PYTHON to one that is" >&2; exit 2; }
  [[ -x .venv/bin/python ]] || "$python" -m venv .venv
  pip() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
  echo "setup: installing the pinned requirements into .venv (a minute or more)" >&2
  torch=$(grep '^torch==' requirements.txt)
  if ! command -v nvidia-smi >/dev/null; then
    # Without a GPU, the CPU build: PyPI's plain torch brings gigabytes of CUDA along.
    pip "$torch+cpu" 2>/dev/null || pip "$torch+cpu" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
      echo "setup: no CPU build of $torch for this platform; taking the plain one" >&2
  fi
  pip -r requirements.txt
  if nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU ' && ! .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "setup: nvidia-smi sees a GPU and $torch does not: its driver is too old for the CUDA of that wheel (or the" \
      "wheel has none). Update the driver, or take a wheel for an older CUDA (nvidia-smi shows the newest it can):" \
      ".venv/bin/pip install $torch --index-url https://download.pytorch.org/whl/cu126" >&2
  fi
  echo "$wanted" > .venv/installed
fi
.venv/bin/python -m tokenizer.gpt2
