"""The part of scripts/referee.py that runs under the harness's own Python: it imports nothing of ours.

.venv-referee/bin/python scripts/referee_harness.py MODEL_DIR DEVICE OUT.json TASK.yaml ...
"""

import json
import sys

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager


def main(model_dir: str, device: str, out: str, *tasks: str) -> None:
    """Write the samples of each task, as the harness logs them, in fp32."""
    manager = TaskManager(include_defaults=False)  # to index all its tasks costs more than the run
    model = {"pretrained": model_dir, "dtype": "float32"}
    kwargs = {"batch_size": 16, "device": device, "bootstrap_iters": 0, "log_samples": True}
    result = simple_evaluate("hf", model, list(tasks), task_manager=manager, **kwargs)
    with open(out, "w") as file:
        json.dump(result["samples"], file, default=str)


if __name__ == "__main__":
    main(*sys.argv[1:])
