"""Scopes, functions, and how both are entered; DO holds the meaning of every kind of node.

expressions.py and statements.py fill DO: an expression's meaning gives its value, a statement's how it left
its block.
"""

import ast
import builtins
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from eval.programs.library import BUILTINS, Builtin
from eval.programs.machine import CALLS, CONTAINERS, Machine, Stop, deny

MISSING = object()
BREAK, CONTINUE, RETURN = "break", "continue", "return"  # how a statement left its block, if not at its end
SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Frame:
    """The names of one scope; `node` is the function whose body runs in it, None elsewhere."""

    __slots__ = ("machine", "names", "node", "parent", "result")

    def __init__(
        self,
        machine: Machine,
        names: dict[str, Any],
        parent: "Frame | None" = None,
        node: ast.AST | None = None,
    ):
        self.machine, self.names, self.parent, self.node, self.result = machine, names, parent, node, None

    def find(self, name: str) -> Any:
        """What `name` means where this frame does not hold it: Python's scoping, with its errors."""
        frame = self
        while frame is not None:
            value = frame.names.get(name, MISSING)
            if value is not MISSING:
                return value
            if frame.node is not None and name in bound_names(frame.node):
                raise NameError(name)
            frame = frame.parent
        if name in BUILTINS:
            return BUILTINS[name]
        if hasattr(builtins, name):
            deny()
        raise NameError(name)


DO: dict[type, Callable[[Frame, Any], Any]] = {}


def meaning_of(*kinds: type) -> Callable:
    """A decorator: the function is what nodes of these kinds mean."""

    def register(function: Callable) -> Callable:
        DO.update(dict.fromkeys(kinds, function))
        return function

    return register


class Function:
    __slots__ = ("defaults", "frame", "node")

    def __init__(self, node: ast.FunctionDef | ast.Lambda, frame: Frame, defaults: list):
        self.node, self.frame, self.defaults = node, frame, defaults


def block(frame: Frame, body: list[ast.stmt]) -> str | None:
    machine = frame.machine
    for node in body:
        machine.fuel -= 1
        if machine.fuel < machine.next_check:
            machine.check()
        left = DO[node.__class__](frame, node)
        if left is not None:
            return left
    return None


def invoke(machine: Machine, function: Any, args: list, kwargs: dict[str, Any]) -> Any:
    machine.spend(1)
    if function.__class__ is Function:
        return enter(machine, function, args, kwargs)
    if function.__class__ is not Builtin:
        raise TypeError("not callable")
    if machine.trace is None or not function.traced:
        return machine.bounded(function.call(machine, *args, **kwargs))
    args = [list(arg) if arg.__class__ is GeneratorType else arg for arg in args]
    value = machine.bounded(function.call(machine, *args, **kwargs))
    operands = (
        tuple(arg) if arg.__class__ in CONTAINERS or arg.__class__ is range else arg
        for arg in (*args, *kwargs.values())
    )
    machine.record(function.name, tuple(operands), value)
    return value


def enter(machine: Machine, function: Function, args: list, kwargs: dict[str, Any]) -> Any:
    node = function.node
    parameters = [a.arg for a in node.args.args]
    names = dict(zip(parameters, args))
    if len(args) > len(parameters) or kwargs.keys() & names or kwargs.keys() - set(parameters):
        raise TypeError("arguments do not fit")
    names |= kwargs
    for name, value in zip(reversed(parameters), reversed(function.defaults)):
        names.setdefault(name, value)
    if len(names) < len(parameters):
        raise TypeError("arguments are missing")
    if machine.depth >= CALLS:
        raise Stop("limit")
    frame = Frame(machine, names, function.frame, node)
    machine.spend(5)
    machine.depth += 1
    try:
        if node.__class__ is ast.Lambda:
            return DO[node.body.__class__](frame, node.body)
        if block(frame, node.body) in (BREAK, CONTINUE):
            raise Stop("syntax")
        return frame.result
    finally:
        machine.depth -= 1


def bound_names(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """The names that are local to a function because something in its body binds them."""
    names = getattr(function, "bound_names", None)
    if names is None:
        names = function.bound_names = {a.arg for a in function.args.args}
        nodes = list(function.body) if function.__class__ is ast.FunctionDef else [function.body]
        for node in nodes:
            if node.__class__ is ast.Name and node.ctx.__class__ is ast.Store:
                names.add(node.id)
            elif node.__class__ is ast.FunctionDef:
                names.add(node.name)
            elif node.__class__ is ast.alias:
                names.add(node.asname or node.name)
            if node.__class__ not in SCOPES:
                nodes.extend(ast.iter_child_nodes(node))
    return names
