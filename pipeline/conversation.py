"""The text of the one chat template; tokenizer/chat.py has its ids and labels."""

from collections.abc import Sequence

VERSION = 1  # raise it with any change of what is written here or in tokenizer/chat.py
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


# The same for tokenizer_config.json. Whitespace around the blocks of a template is trimmed, so newlines are quoted.
# An earlier answer stands in it as the model wrote it, facts by their tokens' names.
JINJA = (
    """{% for message in messages %}{% if not loop.first %}{{ "\\n" }}{% endif %}"""
    """{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] | trim }}{{ eos_token }}"""
    """{% elif message['role'] == 'user' %}User: {{ message['content'] | trim }}"""
    """{% elif message['role'] == 'system' %}System: {{ message['content'] | trim }}"""
    """{% else %}{{ raise_exception('no role ' + message['role']) }}{% endif %}{% endfor %}"""
    """{% if add_generation_prompt %}{{ "\\n" }}Assistant:{% endif %}"""
)


def conversation(question: str, answer: str | None = None) -> list[dict[str, str]]:
    """The messages of a single turn; without an answer, a prompt."""
    messages = [{"role": "user", "content": question}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def as_text(messages: Sequence[dict[str, str]]) -> str:
    """A conversation as a document to pretrain on: encoded, it is what `example` gives but for the EOS."""
    return "\n".join(f"{SPEAKERS[message['role']]}: {message['content'].strip()}" for message in messages)
