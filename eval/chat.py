"""Talk to a model in the terminal; the facts that it writes as tokens are highlighted.

    python -m eval.chat runs/quickstart/mul_tokens-s0/sft_gsm8k        # a stage's directory, or a model's
    python -m eval.chat MODEL_DIR --temperature 0.8
    echo "What is 6 * 9?" | python -m eval.chat MODEL_DIR

One line is one turn of a conversation, asked as every evaluation asks: through the chat template, greedily unless
a temperature is given. The model is shown the turns before, the oldest of them dropped once they leave no room. An
empty line begins a new conversation.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from eval.decode.generate import generate
from eval.models import open_model
from model import GPT
from pipeline.conversation import conversation
from pipeline.errors import UserError, cli
from tokenizer import chat
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
    parser.add_argument("model", type=Path, metavar="DIR", help="a stage's directory, or its model/")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token (default)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at a temperature")
    args = parser.parse_args(argv)
    if args.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {args.max_new_tokens}: must be at least 1")
    if not 0 <= args.temperature < float("inf"):
        raise UserError(f"--temperature {args.temperature}: must be 0 or more")
    model, encoder = open_model(args.model)
    generator = torch.Generator(model.wte.weight.device).manual_seed(args.seed)
    kwargs = {"temperature": args.temperature, "generator": generator}
    messages: list[dict] = []
    for question in _questions():
        messages = turn(model, encoder, messages, question, args.max_new_tokens, kwargs) if question else []


def _questions() -> Iterator[str]:
    import readline  # noqa: F401  (gives input() its line editing)

    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise UserError(f"stdin: is not {error.encoding} text ({error.reason}); convert it") from None


def turn(
    model: GPT, encoder: Encoder, before: list[dict], question: str, max_new_tokens: int, kwargs: dict
) -> list[dict]:
    """Ask, print the reply, and give back the conversation with it."""
    messages, prompt = fit(
        encoder, [*before, *conversation(question)], model.config.block_size, max_new_tokens
    )
    if forgotten := (len(before) + 1 - len(messages)) // 2:
        print(f"  (no room for the conversation's first {_many(forgotten, 'turn')})", file=sys.stderr)
    kwargs = kwargs | {"eos": encoder.eos, "suppress": encoder.suppressed}
    reply = generate(model, [prompt], max_new_tokens, **kwargs)[0]
    if reply is None:
        return before  # longer than the context, as generate has said
    ended = "" if reply[-1] == encoder.eos else ", cut"
    text = paint(encoder, reply, sys.stdout.isatty()).strip().replace("\n", "\n  ")
    counts = f"{_many(len(reply), 'token')}, {_many(encoder.count_facts(reply), 'fact')}"
    print(f"  {text}\n  ({counts}{ended})", flush=True)
    return [*messages, {"role": "assistant", "content": encoder.render(reply)}]


def fit(
    encoder: Encoder, messages: list[dict], context: int, max_new_tokens: int
) -> tuple[list[dict], list[int]]:
    """The last turns that leave room for an answer, of half the context at most; and their ids."""
    room = min(max_new_tokens, context // 2)
    while len(prompt := chat.prompt_ids(encoder, messages)) + room > context and len(messages) > 2:
        messages = messages[2:]
    return messages, prompt


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


if __name__ == "__main__":
    cli(main)
