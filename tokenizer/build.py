"""Build the Hugging Face tokenizer of a condition, and prove that both encoders agree.

    python -m tokenizer.build experiments/quickstart.yaml mul_tokens 0

Writes tokenizer.json and condition.json. Refuses unless our encoder and the Hugging Face tokenizer give the same ids
on every example, and `render` gives back the canonical spelling where the condition has an inverse.
"""

import itertools

from pipeline import stage
from pipeline.errors import UserError, cli
from pipeline.sample.documents import documents
from tokenizer import encode
from tokenizer.encode import Encoder

EXAMPLES = 500  # generated documents, beside the awkward ones
AWKWARD = (
    "",
    " ",
    "\n\n  \n",
    "naïve café — “6 × 9 = 54” … 日本語 🧮\u200b\u00a0",
    "<<6*9=54>>54 apples, $6 \\times 9 = 54$, 106*9=954, 6*9.5=57, 1*2*5=10",
    "tabs\tand   spaces   ",
)


def check(encoder: Encoder, texts: list[str]) -> None:
    """Raises UserError at the first text on which the two encoders or the inverse disagree."""
    condition = encoder.condition
    for text in texts:
        segments = condition.rewrite(text)
        ids = encoder.encode_segments(segments)
        if encoder.hf.encode(condition.written(segments)) != ids:
            raise UserError(
                f"{condition.name}: tiktoken and Hugging Face disagree on {text[:60]!r}; check their versions"
            )
        if condition.invertible and encoder.render(ids) != condition.canonical(text):
            raise UserError(
                f"{condition.name}: {text[:60]!r} does not come back; check vocabulary '{condition.vocabulary}'"
            )


def main(argv: list[str] | None = None) -> None:
    with stage.begin("tokenizer", argv, __doc__) as run:
        if run is not None:
            encoder = encode.for_run(run.experiment, run.condition)
            texts = [row["text"] for row in itertools.islice(documents(seed=0, split="validation"), EXAMPLES)]
            check(encoder, [*texts, *AWKWARD])
            run.finish(encode.save(encoder, run.dir), ids=encoder.size, facts=len(encoder.fact_ids))


if __name__ == "__main__":
    cli(main)
