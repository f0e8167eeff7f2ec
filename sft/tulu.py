"""Chat rows, in the columns of the Tulu mixtures, as conversations.

Every assistant turn is supervised, nothing else. A conversation is taken whole or not at all: one with
another speaker (a tool), with an empty turn, or that does not end in an answer is dropped for that reason.
"""

from types import ModuleType

from pipeline.conversation import SPEAKERS
from pipeline.sections import Sft


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
