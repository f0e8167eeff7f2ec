"""Chat rows, in the columns of the Tulu mixtures, as conversations.

Every assistant turn is supervised, nothing else. A conversation is taken whole or not at all: one with
another speaker (a tool), with an empty turn, or that does not end in an answer is dropped for that reason.
"""

from collections.abc import Iterator
from types import ModuleType

from pipeline.conversation import SPEAKERS
from pipeline.formats import Format, turns
from pipeline.sample.documents import chats
from pipeline.sample.named import nameless
from pipeline.sections import Sft


def generate(split: str, n: int, seed: int, name: str | None) -> Iterator[dict]:
    nameless(name)
    return chats(split, n, seed)


FORMAT = Format("tulu", {"messages": turns}, generate)


def messages(row: dict, spec: Sft, vocabulary: ModuleType) -> list[dict[str, str]] | str:
    """The row's conversation, or why it is dropped."""
    turns = [{"role": turn["role"], "content": turn["content"] or ""} for turn in row["messages"] or ()]
    if any(turn["role"] not in SPEAKERS for turn in turns):
        return "another speaker than system, user and assistant"
    if not turns or turns[-1]["role"] != "assistant":
        return "does not end in an answer"
    if not all(turn["content"].strip() for turn in turns):
        return "an empty turn"
    return turns
