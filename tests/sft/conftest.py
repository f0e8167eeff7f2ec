"""What the tests of fine-tuning share."""

import pytest

from pipeline.sections import Sft


@pytest.fixture(scope="session")
def spec():
    """A small stage's section, with changes."""
    section = dict(
        run="sft", task="gsm8k", data="sample", examples=96, batch_size=8, micro_batch=4, max_length=120,
        lr=1e-3, schedule="cosine", warmup=0, weight_decay=0.1, precision="fp32",
    )  # fmt: skip
    return lambda **changes: Sft(**{**section, "from": "export", **changes})
