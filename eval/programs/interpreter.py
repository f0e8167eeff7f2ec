"""python -m eval.programs.interpreter rows.jsonl > outcomes.jsonl

A default-deny interpreter for the small Python functions that TinyGSM is made of. In: rows with "code";
out, row by row: {"status": "ok|no_function|syntax|rejected|limit|error", "value": number|null}.

It serves to compute the answers of a dataset, to score programs that a model wrote, and to trace: to report
every arithmetic operation with its operands and the name it was assigned to (sft/trace.py makes text of
that).

It walks the syntax tree and gives each kind of node its Python meaning (expressions.py, statements.py); a
tree that holds any other kind is "rejected" before it starts. Python itself compiles and executes nothing,
and values are met only through operators.py and library.py. Every step is paid for before it is done
(machine.py, prices.py).
"""

import ast
import json
import math
import sys
import warnings
from typing import Any, NamedTuple

from eval.programs import statements  # noqa: F401 - fills DO
from eval.programs.frames import DO, Frame, Function, block, invoke
from eval.programs.machine import BITS, NUMBERS, Machine, Operation, Stop, deny

SOURCE = 20_000  # characters
NODES = 5_000  # of the syntax tree


class Outcome(NamedTuple):
    """`value`: the finite number that the function returned (True is 1), else None; "ok" with None means that
    it returned something else. `trace`: the steps of that call as they ran, where asked for and "ok"."""

    status: str
    value: int | float | None = None
    trace: list[Operation] | None = None


def run(code: str, trace: bool = False) -> Outcome:
    """Run a program: its module, then without arguments `simple_math_problem`, or else the last function.

    Never raises, prints, or keeps anything of the program's."""
    names: dict[str, Any] = {"__name__": "program"}
    try:
        tree = parse(code)
        machine = Machine(invoke)
        if block(Frame(machine, names), tree.body) is not None:
            raise Stop("syntax")
        machine.trace = [] if trace else None
        value = machine.bounded(invoke(machine, entry(names), [], {}))
    except Stop as stop:
        return Outcome(str(stop))
    except (RecursionError, MemoryError):
        return Outcome("limit")
    except Exception:
        return Outcome("error")
    finally:
        names.clear()  # functions and the frames that hold them are cycles
    if value.__class__ is bool:
        value = int(value)
    if value.__class__ not in NUMBERS or not math.isfinite(value if value.__class__ is float else 0):
        value = None
    return Outcome("ok", value, machine.trace)


def entry(names: dict[str, Any]) -> Function:
    functions = {
        name: value
        for name, value in names.items()
        if value.__class__ is Function and value.node.__class__ is ast.FunctionDef
    }
    if not functions:
        raise Stop("no_function")
    return functions.get("simple_math_problem") or functions.popitem()[1]


# --- the grammar --------------------------------------------------------------------------------------------


class Grammar(dict):
    def __missing__(self, kind: type) -> Any:
        deny()


INSIDE = (ast.Module, ast.Starred, ast.keyword, ast.comprehension, ast.arguments, ast.arg, ast.alias)
NOT_NODES = set(
    "arg asname attr conversion ctx id is_async kind level module name op ops simple type_comment type_ignores".split()
)
CHILDREN = Grammar(
    {kind: tuple(field for field in kind._fields if field not in NOT_NODES) for kind in (*DO, *INSIDE)}
)
CHILDREN[ast.Constant] = ()


def parse(code: str) -> ast.Module:
    """The syntax tree of a program that is small and holds nothing but the grammar; raises Stop."""
    if len(code) > SOURCE:
        raise Stop("limit")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray "\d" in a docstring
            tree = ast.parse(code)
    except (SyntaxError, ValueError):  # ValueError: null bytes, lone surrogates
        raise Stop("syntax") from None
    nodes: list = [tree]
    for node in nodes:
        for name in CHILDREN[node.__class__]:
            child = getattr(node, name)
            if child.__class__ is list:
                nodes += child
            elif child is not None:
                nodes.append(child)
    if len(nodes) > NODES or (len(code) > BITS // 4 and any(map(too_long, nodes))):
        raise Stop("limit")
    if returns_outside(tree.body):
        raise Stop("syntax")
    return tree


def too_long(node: ast.AST) -> bool:
    """An integer that no operation may make; the shortest way to write one is hexadecimal, 4 bits a character."""
    return node.__class__ is ast.Constant and node.value.__class__ is int and node.value.bit_length() > BITS


def returns_outside(body: list) -> bool:
    """`return` at module level: Python's compiler refuses it, its parser does not."""
    return any(
        node.__class__ is ast.Return
        or (node.__class__ in (ast.If, ast.For, ast.While) and returns_outside(node.body + node.orelse))
        for node in body
    )


# --- the command --------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    from pipeline.errors import UserError  # only the command needs it

    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1:
        raise UserError("usage: python -m eval.programs.interpreter rows.jsonl > outcomes.jsonl")
    try:
        lines = open(argv[0], "rb")  # json decodes: a line that is not UTF-8 is named as well
    except OSError as error:
        raise UserError(f"{argv[0]}: {error.strerror}") from None
    with lines:
        for number, line in enumerate(lines, 1):
            try:
                code = json.loads(line)["code"]
            except (ValueError, TypeError, KeyError, RecursionError):
                code = None
            if not isinstance(code, str):
                raise UserError(f'{argv[0]}:{number}: not a JSON row with a string "code"')
            outcome = run(code)
            print(json.dumps({"status": outcome.status, "value": outcome.value}, allow_nan=False))


if __name__ == "__main__":
    from pipeline.errors import cli

    cli(main)
