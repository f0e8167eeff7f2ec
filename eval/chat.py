"""Ask a model questions in the terminal; the facts that it writes as tokens are highlighted.

    python -m eval.chat MODEL_DIR
    echo "What is 6 * 9?" | python -m eval.chat MODEL_DIR

One line is one question, asked as every evaluation asks: through the chat template, greedily, without memory
of the lines before.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from eval.decode.generate import generate
from eval.run import open_model
from eval.tasks.gsm8k import prompt
from model import GPT
from pipeline.errors import UserError, cli
from tokenizer.encode import Encoder
from tokenizer.show import FACT


def paint(encoder: Encoder, reply: list[int], colour: bool) -> str:
    """The rendered reply; what a fact token says is on a coloured ground, or in ⟨ ⟩ without colours."""
    before, after = (f"\033[48;5;{FACT}m\033[97m", "\033[0m") if colour else ("⟨", "⟩")
    pieces = encoder.pieces(reply)
    return "".join(f"{before}{text}{after}" if text and token is not None else text for text, token in pieces)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    args = parser.parse_args(argv)
    if args.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {args.max_new_tokens}: must be at least 1")
    model, encoder = open_model(args.model)
    for question in _questions():
        if question.strip():
            answer(model, encoder, question, args.max_new_tokens)


def _questions() -> Iterator[str]:
    import readline  # noqa: F401  (gives input() its line editing)

    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise UserError(f"stdin: is not {error.encoding} text ({error.reason}); convert it") from None


def answer(model: GPT, encoder: Encoder, question: str, max_new_tokens: int) -> None:
    words = {"eos": encoder.eos, "suppress": encoder.suppressed}
    reply = generate(model, [prompt(encoder, question)], max_new_tokens, **words)[0]
    if reply is None:
        return  # longer than the context, as generate has said
    ended = "" if reply[-1] == encoder.eos else ", cut"
    said = paint(encoder, reply, sys.stdout.isatty()).strip().replace("\n", "\n  ")
    print(f"  {said}\n  ({len(reply)} tokens, {encoder.count_facts(reply)} facts{ended})", flush=True)


if __name__ == "__main__":
    cli(main)
