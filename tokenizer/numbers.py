"""How a condition splits numbers: a second property of it, beside its mode of writing facts.

    bpe      as GPT-2's BPE has it, with a space in front: ` 123`, `45`, `67`
    digits   every digit by itself: 1, 2, 3, 4, 5, 6, 7    (Llama 2, Gemma, Qwen)
    left     groups counted from the left: 123, 456, 7     (GPT-4, Llama 3)
    right    groups counted from the right: 1, 234, 567    (Singh & Strouse 2024, arXiv:2402.14903)

A number is a maximal run of [0-9]: commas and points end it, a space before it belongs to the text before it, and
other scripts' digits are text. Single digits are the BPE's ten ids. Groups of 2 … `group` digits have ids of their own
behind the facts, by length and then by value, so that `007` is one of them; where no number is split so they are
reserved. One regular expression, which Oniguruma (Hugging Face) and Rust (tiktoken) read alike, makes both encoders
agree.
"""

import re

SCHEMES = ("bpe", "digits", "left", "right")
GROUPED = ("left", "right")


def groups(group: int | None) -> list[str]:
    """The digits of every group id, in the order of the ids."""
    return [f"{value:0{length}}" for length in range(2, (group or 0) + 1) for value in range(10**length)]


def piece(scheme: str, group: int | None) -> str:
    """The regular expression of one piece of a number, searched for from left to right.

    A number grouped from the right begins with its incomplete group, if it has one. The lookbehind and the atomic
    group keep the search linear in a number's length.
    """
    if scheme == "digits" or group is None:
        return "[0-9]"
    if scheme == "left":
        return f"[0-9]{{1,{group}}}"
    first = f"(?<![0-9])[0-9]{{1,{group - 1}}}(?=(?>(?:[0-9]{{{group}}})+)(?![0-9]))"
    return f"{first}|[0-9]{{1,{group}}}"


def text_pattern(scheme: str, group: int | None) -> str:
    """tiktoken's pattern: numbers in pieces, and what lies between them as GPT-2's own pattern cuts it.

    That is tiktoken's r50k_pat_str, but that a digit ends the text before it as the end of the text does.
    """
    word, other = r" ?\p{L}++| ?[\p{N}&&[^0-9]]++", r" ?[^\s\p{L}\p{N}]++"
    return rf"'(?:[sdmt]|ll|ve|re)|{word}|{piece(scheme, group)}|{other}|\s++$|\s+(?![^\s0-9])|\s"


def unused(ranks: dict[bytes, int], scheme: str) -> list[int]:
    """The ids of the BPE that never occur because numbers are split: those with a digit and something beside it."""
    if scheme == "bpe":
        return []
    return [rank for token, rank in ranks.items() if len(token) > 1 and re.search(rb"[0-9]", token)]
