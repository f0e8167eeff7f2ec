"""The squares of 2 to 20, `<SQ_12_144>`: a second vocabulary, the proof that a new idea is one file like this."""

from tokenizer.lexer import equations

_ROOTS = range(2, 21)

FACTS = tuple(f"<SQ_{n}_{n * n}>" for n in _ROOTS)


def spell(index: int) -> tuple[str, str]:
    """("12 * 12", "144")"""
    n = _ROOTS[index]
    return f"{n} * {n}", str(n * n)


def find(text: str, weak: bool = False) -> list[tuple[int, int, int]]:
    """(start, end, index) of every true square `12 * 12 = 144` in `text`. `weak` also takes a bare `12 * 12`."""
    spans = []
    for found in equations(text, "*", bare=weak):
        if found.a == found.b and found.a in map(str, _ROOTS):
            index = _ROOTS.index(int(found.a))
            if found.c in (None, spell(index)[1]):
                spans.append((found.start, found.end, index))
    return spans


def work(a: int, op: str, b: int) -> list[str] | None:
    """The steps of a product through the square of its smaller factor: 12 * 15 = 12 * 12 + 12 * 3."""
    small, large = sorted((a, b))
    if op != "*" or small not in _ROOTS or large - small not in range(1, 10):
        return None
    square, rest = small * small, small * (large - small)
    return [
        f"{small} * {small} = {square}",
        f"{large - small} * {small} = {rest}",
        f"{square} + {rest} = {square + rest}",
    ]


def probes() -> dict[str, list[tuple[str, str]]]:
    """Every square, and its neighbours n * (n + 1)."""
    return {
        "table": [spell(index) for index in range(len(FACTS))],
        "neighbours": [(f"{n} * {n + 1}", str(n * (n + 1))) for n in _ROOTS],
    }


def cell(index: int) -> tuple[int, int]:
    """(row, column) of a fact in a heat map: tens and units of the root."""
    return divmod(_ROOTS[index], 10)
