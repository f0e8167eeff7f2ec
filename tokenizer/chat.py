"""The one chat template, and the labels that go with it.

    System: Be brief.          (where there is one)
    User: What is 6 * 9?
    Assistant: 6 * 9 = 54<eos>
    User: …

A prompt ends at `Assistant:` and an answer begins with a space: a prompt that ended in a space or a digit could merge
with the answer. Answers are rewritten as the condition writes facts; questions never are.
"""

from collections.abc import Sequence

from pipeline.conversation import SPEAKERS
from tokenizer.encode import Encoder

IGNORE = -100  # the label that torch's cross-entropy leaves out


def prompt_ids(encoder: Encoder, messages: Sequence[dict[str, str]]) -> list[int]:
    """Ids up to and with `Assistant:`, ready for the next answer."""
    return [token for turn, _ in _turns(encoder, messages) for token in turn] + _opening(
        encoder, "\n" if messages else ""
    )


def example(encoder: Encoder, messages: Sequence[dict[str, str]]) -> tuple[list[int], list[int]]:
    """(input_ids, labels) of a conversation: labels are IGNORE but for the assistant's tokens and their EOS."""
    ids: list[int] = []
    labels: list[int] = []
    for turn, supervised in _turns(encoder, messages):
        ids += turn
        labels += turn if supervised else [IGNORE] * len(turn)
    return ids, labels


def _opening(encoder: Encoder, newline: str) -> list[int]:
    return encoder.encode(f"{newline}Assistant:")


def _turns(encoder: Encoder, messages: Sequence[dict[str, str]]):
    """(ids, supervised) parts of a conversation in order."""
    for i, message in enumerate(messages):
        newline, speaker = "\n" if i else "", SPEAKERS[message["role"]]
        if message["role"] == "assistant":
            yield _opening(encoder, newline), False
            yield [*encoder.encode_facts(f" {message['content'].strip()}"), encoder.eos], True
        else:
            yield encoder.encode(f"{newline}{speaker}: {message['content'].strip()}"), False
