"""The text of the one chat template; tokenizer/chat.py has its ids and labels."""

from collections.abc import Sequence

VERSION = 1  # raise it with any change of what is written here or in tokenizer/chat.py
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


def conversation(question: str, answer: str | None = None) -> list[dict[str, str]]:
    """The messages of a single turn; without an answer, a prompt."""
    messages = [{"role": "user", "content": question}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def as_text(messages: Sequence[dict[str, str]]) -> str:
    """A conversation as a document to pretrain on: encoded, it is what `example` gives but for the EOS."""
    return "\n".join(f"{SPEAKERS[message['role']]}: {message['content'].strip()}" for message in messages)
