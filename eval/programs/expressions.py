"""Expressions: the meaning of a node is its value."""

import ast
from collections.abc import Iterator
from typing import Any

from eval.programs.frames import DO, MISSING, Frame, Function, invoke, meaning_of
from eval.programs.iterables import make_set, small_range
from eval.programs.library import METHODS, Builtin, Module
from eval.programs.machine import LAZY, LITERALS, NUMBERS, Machine, deny
from eval.programs.operators import arithmetic, compare, text, unary

# --- values and operators -------------------------------------------------------------------------------------


@meaning_of(ast.Constant)
def constant(frame: Frame, node: ast.Constant) -> Any:
    return node.value if node.value.__class__ in LITERALS else deny()


@meaning_of(ast.Name)
def load(frame: Frame, node: ast.Name) -> Any:
    value = frame.names.get(node.id, MISSING)
    return frame.find(node.id) if value is MISSING else value


@meaning_of(ast.BinOp)
def binary(frame: Frame, node: ast.BinOp) -> Any:
    a = DO[node.left.__class__](frame, node.left)
    return arithmetic(frame.machine, node.op.__class__, a, DO[node.right.__class__](frame, node.right))


@meaning_of(ast.UnaryOp)
def unary_operation(frame: Frame, node: ast.UnaryOp) -> Any:
    operand = DO[node.operand.__class__](frame, node.operand)
    value = unary(frame.machine, node.op.__class__, operand)
    if node.op.__class__ is ast.USub and node.operand.__class__ is not ast.Constant:
        frame.machine.record("-", (operand,), value)
    return value


@meaning_of(ast.Compare)
def comparison(frame: Frame, node: ast.Compare) -> Any:
    left = DO[node.left.__class__](frame, node.left)
    for op, right in zip(node.ops, node.comparators):
        right = DO[right.__class__](frame, right)
        value = compare(frame.machine, op.__class__, left, right)
        if not value:
            return value
        left = right
    return value


@meaning_of(ast.BoolOp)
def boolean(frame: Frame, node: ast.BoolOp) -> Any:
    stops_at = node.op.__class__ is ast.Or
    for part in node.values:
        value = DO[part.__class__](frame, part)
        if bool(value) is stops_at:
            break
    return value


@meaning_of(ast.IfExp)
def conditional(frame: Frame, node: ast.IfExp) -> Any:
    branch = node.body if DO[node.test.__class__](frame, node.test) else node.orelse
    return DO[branch.__class__](frame, branch)


@meaning_of(ast.NamedExpr)
def walrus(frame: Frame, node: ast.NamedExpr) -> Any:
    value = DO[node.value.__class__](frame, node.value)
    while frame.node is None and frame.parent is not None:  # out of comprehensions
        frame = frame.parent
    frame.names[node.target.id] = value
    return value


# --- containers and their parts -------------------------------------------------------------------------------


@meaning_of(ast.List)
def list_of(frame: Frame, node: ast.List | ast.Tuple | ast.Set) -> list:
    return spread(frame, node.elts)


@meaning_of(ast.Tuple)
def tuple_of(frame: Frame, node: ast.Tuple) -> tuple:
    return tuple(spread(frame, node.elts))


@meaning_of(ast.Set)
def set_of(frame: Frame, node: ast.Set) -> set:
    return make_set(frame.machine, spread(frame, node.elts))


def spread(frame: Frame, nodes: list) -> list:
    """The values of expressions, those of `*iterables` in their place."""
    values: list = []
    for node in nodes:
        if node.__class__ is ast.Starred:
            values.extend(frame.machine.metered(DO[node.value.__class__](frame, node.value)))
        else:
            values.append(DO[node.__class__](frame, node))
    frame.machine.spend(len(values) + 1)
    return values


@meaning_of(ast.Dict)
def dictionary(frame: Frame, node: ast.Dict) -> dict:
    result: dict = {}
    frame.machine.spend(3)
    for key, value in zip(node.keys, node.values):
        key = DO[key.__class__](frame, key)
        set_item(frame.machine, result, key, DO[value.__class__](frame, value))
    return result


def set_item(machine: Machine, container: list | dict, key: Any, value: Any) -> None:
    machine.weigh(key)
    machine.spend(2)
    container[key] = value


@meaning_of(ast.Subscript)
def subscript(frame: Frame, node: ast.Subscript) -> Any:
    value = DO[node.value.__class__](frame, node.value)
    key = DO[node.slice.__class__](frame, node.slice)
    if value.__class__ not in (list, tuple, str, dict, range):
        raise TypeError("not subscriptable")
    frame.machine.weigh(key)
    if value.__class__ is range:
        result = value[key]
        return small_range(result) if result.__class__ is range else result
    if key.__class__ is slice:
        frame.machine.spend(len(value))
    return value[key]


@meaning_of(ast.Slice)
def slice_of(frame: Frame, node: ast.Slice) -> slice:
    return slice(*(part and DO[part.__class__](frame, part) for part in (node.lower, node.upper, node.step)))


@meaning_of(ast.Attribute)
def attribute(frame: Frame, node: ast.Attribute) -> Any:
    value = DO[node.value.__class__](frame, node.value)
    if value.__class__ is Module:
        return value.names[node.attr] if node.attr in value.names else deny()
    if value.__class__ in NUMBERS | {complex} and node.attr in ("real", "imag"):
        return getattr(value, node.attr)
    method = METHODS.get(value.__class__, {}).get(node.attr) or deny()
    frame.machine.spend(3)
    return Builtin(node.attr, lambda machine, *args, **kwargs: method(machine, value, *args, **kwargs))


# --- text -----------------------------------------------------------------------------------------------------


@meaning_of(ast.JoinedStr)
def f_string(frame: Frame, node: ast.JoinedStr) -> str:
    parts = [DO[part.__class__](frame, part) for part in node.values]
    frame.machine.weigh(parts)
    return "".join(parts)


@meaning_of(ast.FormattedValue)
def f_string_field(frame: Frame, node: ast.FormattedValue) -> str:
    value = DO[node.value.__class__](frame, node.value)
    spec = DO[ast.JoinedStr](frame, node.format_spec) if node.format_spec else ""
    if node.conversion != -1:
        convert = {"s": str, "r": repr, "a": ascii}[chr(node.conversion)]
        value = text(frame.machine, value, convert=convert)
    return text(frame.machine, value, spec)


# --- calls ----------------------------------------------------------------------------------------------------


@meaning_of(ast.Call)
def call(frame: Frame, node: ast.Call) -> Any:
    function = DO[node.func.__class__](frame, node.func)
    args = spread(frame, node.args)
    kwargs = {keyword.arg: DO[keyword.value.__class__](frame, keyword.value) for keyword in node.keywords}
    return invoke(frame.machine, function, args, kwargs)


@meaning_of(ast.Lambda)
def closure(frame: Frame, node: ast.Lambda | ast.FunctionDef) -> Function:
    if node.args.posonlyargs or node.args.vararg or node.args.kwonlyargs or node.args.kwarg:
        deny()
    frame.machine.spend(5)
    return Function(node, frame, [DO[default.__class__](frame, default) for default in node.args.defaults])


# --- comprehensions -------------------------------------------------------------------------------------------


@meaning_of(ast.GeneratorExp)
def generator(frame: Frame, node: ast.GeneratorExp) -> Iterator:
    frame.machine.spend(LAZY)
    return each(frame, node)


@meaning_of(ast.ListComp)
def list_comprehension(frame: Frame, node: ast.ListComp) -> list:
    return list(each(frame, node))


@meaning_of(ast.SetComp)
def set_comprehension(frame: Frame, node: ast.SetComp) -> set:
    return make_set(frame.machine, each(frame, node))


@meaning_of(ast.DictComp)
def dict_comprehension(frame: Frame, node: ast.DictComp) -> dict:
    scope, turns = comprehension(frame, node.generators)
    result: dict = {}
    for _ in turns:
        key = DO[node.key.__class__](scope, node.key)
        set_item(frame.machine, result, key, DO[node.value.__class__](scope, node.value))
    return result


def each(frame: Frame, node: ast.GeneratorExp | ast.ListComp | ast.SetComp) -> Iterator:
    scope, turns = comprehension(frame, node.generators)
    return (DO[node.elt.__class__](scope, node.elt) for _ in turns)


def comprehension(frame: Frame, loops: list[ast.comprehension]) -> tuple[Frame, Iterator[None]]:
    """A comprehension's own scope, and its turns; the first iterable belongs to the scope around it."""
    if any(loop.is_async for loop in loops):
        deny()
    frame.machine.spend(10)
    scope = Frame(frame.machine, {}, frame)
    return scope, iterate(scope, loops, iter(DO[loops[0].iter.__class__](frame, loops[0].iter)))


def iterate(scope: Frame, loops: list[ast.comprehension], source: Iterator) -> Iterator[None]:
    """Bind the targets of the `for … in … if …` clauses: a turn each time that the innermost is reached."""
    for item in source:
        scope.machine.spend(1)
        bind(scope, loops[0].target, item)
        if not all(DO[test.__class__](scope, test) for test in loops[0].ifs):
            continue
        if len(loops) == 1:
            yield
        else:
            yield from iterate(scope, loops[1:], iter(DO[loops[1].iter.__class__](scope, loops[1].iter)))


# --- targets --------------------------------------------------------------------------------------------------


def bind(frame: Frame, target: ast.expr, value: Any) -> None:
    if target.__class__ is ast.Name:
        frame.names[target.id] = value
    elif target.__class__ is ast.Subscript:
        set_item(frame.machine, *place(frame, target), value)
    elif target.__class__ is ast.Tuple or target.__class__ is ast.List:
        values = list(frame.machine.metered(value))
        stars = [i for i, part in enumerate(target.elts) if part.__class__ is ast.Starred]
        if stars:
            end = len(values) - len(target.elts) + stars[0] + 1
            values = values[: stars[0]] + [values[stars[0] : end]] + values[max(end, stars[0]) :]
        if len(values) != len(target.elts):
            raise ValueError("wrong number of values to unpack")
        for part, value in zip(target.elts, values):
            bind(frame, part.value if part.__class__ is ast.Starred else part, value)
    else:
        deny()


def place(frame: Frame, target: ast.expr) -> tuple[Any, Any]:
    """The container and key that `container[key]` stores to."""
    if target.__class__ is not ast.Subscript or target.slice.__class__ is ast.Slice:
        deny()
    container = DO[target.value.__class__](frame, target.value)
    if container.__class__ not in (list, dict):
        raise TypeError("does not support item assignment")
    key = DO[target.slice.__class__](frame, target.slice)
    frame.machine.weigh(key)
    return container, key
