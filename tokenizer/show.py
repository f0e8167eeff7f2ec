"""Show how each condition writes a text: its tokens, coloured, with their ids.

python -m tokenizer.show "6 * 9 = 54 eggs"
python -m tokenizer.show --vocabulary squares --base 4096 "12 * 12 = 144"
"""

import argparse
import sys

from pipeline.errors import UserError, cli
from pipeline.files import ROOT
from tokenizer.conditions import MODES, Condition
from tokenizer.encode import Encoder

# The published conditions by their usual names; any experiment may call them otherwise.
NAMES = {
    "plain": "baseline",
    "token": "mul_tokens",
    "echo": "mul_echo",
    "placebo": "placebo",
    "value": "product_only",
}
SHADES, FACT = (24, 60), 208  # 256-colour backgrounds: text tokens in turn, facts


def tokens(encoder: Encoder, text: str) -> list[tuple[str, int]]:
    """(what a person reads, id) of each token of a rewritten text."""
    condition = encoder.condition
    ids = encoder.encode_facts(text)
    return [
        (condition.names[i - condition.base] if i >= condition.base else _printable(encoder, i), i)
        for i in ids
    ]


def _printable(encoder: Encoder, token: int) -> str:
    return encoder.bpe.decode_single_token_bytes(token).decode("utf-8", "backslashreplace").replace("\n", "⏎")


def paint(pieces: list[tuple[str, int]], facts: range, colour: bool) -> tuple[str, str]:
    """(line of tokens, line of ids), each token as wide as the longer of the two."""
    upper = lower = ""
    for n, (text, token) in enumerate(pieces):
        width = max(len(text), len(str(token))) + 1
        shade = FACT if token in facts else SHADES[n % 2]
        before, after = (
            (f"\033[48;5;{shade}m\033[97m", "\033[0m")
            if colour
            else ("", "" if n + 1 == len(pieces) else "|")
        )
        upper += f"{before}{text:<{width}}{after}"
        lower += f"{token:<{width}}" + ("" if colour else " " * len(after))
    return upper.rstrip() if not colour else upper, lower.rstrip()


def main(argv: list[str] | None = None) -> None:
    vocabularies = sorted(
        p.stem for p in (ROOT / "tokenizer/vocabularies").glob("*.py") if p.stem != "__init__"
    )
    parser = argparse.ArgumentParser(
        prog="python -m tokenizer.show",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--vocabulary", default="multiplication", choices=vocabularies)
    parser.add_argument("--base", type=int, default=50256, help="ranks of GPT-2's BPE that are kept")
    parser.add_argument("--match", default="strict", choices=("strict", "weak"))
    parser.add_argument("--color", default="auto", choices=("auto", "always", "never"))
    args = parser.parse_args(argv)
    if not 256 <= args.base <= 50256:
        raise UserError(f"--base {args.base}: GPT-2's BPE has ranks 256 to 50256")
    colour = args.color == "always" or args.color == "auto" and sys.stdout.isatty()
    for mode in MODES:
        encoder = Encoder(Condition(NAMES[mode], mode, args.vocabulary, args.base, args.match))
        pieces = tokens(encoder, args.text)
        facts = encoder.count_facts(token for _, token in pieces)
        print(f"{NAMES[mode]} ({mode}): {len(pieces)} tokens, {facts} {'fact' if facts == 1 else 'facts'}")
        for line in paint(pieces, encoder.fact_ids, colour):
            print(f"  {line}")


if __name__ == "__main__":
    cli(main)
