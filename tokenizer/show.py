"""Show how each condition writes a text: its tokens, coloured, with their ids.

    python -m tokenizer.show "6 * 9 = 54 eggs"
    python -m tokenizer.show --vocabulary squares --base 4096 "12 * 12 = 144"
    python -m tokenizer.show --numbers bpe digits left right --modes plain "1234567 * 10 = 12345670"

Every mode with every way to split numbers that is asked for; without --numbers as GPT-2 splits them.
"""

import argparse
import itertools
import sys

from pipeline.errors import UserError, cli
from pipeline.files import ROOT
from tokenizer.conditions import MODES, SHARED, Condition
from tokenizer.encode import Encoder
from tokenizer.numbers import GROUPED, SCHEMES

# The published conditions by their usual names; any experiment may call them otherwise.
NAMES = {
    "plain": "baseline",
    "token": "mul_tokens",
    "echo": "mul_echo",
    "placebo": "placebo",
    "value": "product_only",
    "mixed": "mixed",
}
SHADES, FACT = (24, 60), 208  # 256-colour backgrounds: text tokens in turn, facts


def tokens(encoder: Encoder, text: str) -> list[tuple[str, int]]:
    """(what a person reads, id) of each token of a rewritten text."""
    condition = encoder.condition
    ids = encoder.encode_facts(text)
    return [
        (_printable(encoder, i) if i in encoder.text else condition.names[i - condition.base], i) for i in ids
    ]


def _printable(encoder: Encoder, token: int) -> str:
    return encoder.text[token].decode("utf-8", "backslashreplace").replace("\n", "⏎")


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
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument(
        "--numbers", nargs="+", default=["bpe"], choices=SCHEMES, help="how numbers are split"
    )
    parser.add_argument(
        "--group", type=int, choices=(2, 3, 4), help="digits of a group; 3 where one is needed"
    )
    parser.add_argument("--share", type=float, default=0.5, help="of facts that mixed writes as their tokens")
    parser.add_argument("--color", default="auto", choices=("auto", "always", "never"))
    args = parser.parse_args(argv)
    if not 256 <= args.base <= 50256:
        raise UserError(f"--base {args.base}: GPT-2's BPE has ranks 256 to 50256")
    if not 0 < args.share < 1:
        raise UserError(f"--share {args.share}: is a share between 0 and 1")
    group = args.group or (3 if set(args.numbers) & set(GROUPED) else None)
    colour = args.color == "always" or args.color == "auto" and sys.stdout.isatty()
    for mode, scheme in itertools.product(args.modes, args.numbers):
        name = NAMES.get(mode, mode) if args.numbers == ["bpe"] else f"{NAMES[mode]}, numbers: {scheme}"
        share = args.share if mode in SHARED else None
        condition = Condition(name, mode, args.vocabulary, args.base, args.match, scheme, group, share)
        encoder = Encoder(condition)
        pieces = tokens(encoder, args.text)
        facts = encoder.count_facts(token for _, token in pieces)
        print(f"{name} ({mode}): {len(pieces)} tokens, {facts} {'fact' if facts == 1 else 'facts'}")
        for line in paint(pieces, encoder.fact_ids, colour):
            print(f"  {line}")


if __name__ == "__main__":
    cli(main)
