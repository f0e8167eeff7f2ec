"""python -m eval.programs.interpreter rows.jsonl > outcomes.jsonl

A default-deny interpreter for the small Python functions that TinyGSM is made of. In: rows with "code";
out, row by row: {"status": "ok|no_function|syntax|rejected|limit|error", "value": number|null}.

It serves to compute the answers of a dataset, to score programs that a model wrote, and to trace: to report
every arithmetic operation with its operands and the name it was assigned to (sft/trace.py makes text of
that).

It walks the syntax tree and gives each kind of node its Python meaning; a tree that holds any other kind is
"rejected" before it starts. Python itself compiles and executes nothing, and values are met only through
what eval/programs/library.py lists. Statements, calls and iterations are paid from the budget that everything there
is paid from: a program that would not end, or would fill the memory, ends as "limit", everywhere at the
same place.
"""

import ast
import builtins
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any, NamedTuple

from eval.programs.library import (
    BUILTINS,
    CALLS,
    CONTAINERS,
    LAZY,
    LITERALS,
    MATH,
    METHODS,
    NUMBERS,
    UNARY,
    Builtin,
    Module,
    Run,
    Step,
    Stop,
    arithmetic,
    compare,
    deny,
    make_set,
    text,
)

SOURCE = 20_000  # characters
NODES = 5_000  # of the syntax tree

MISSING = object()
BREAK, CONTINUE, RETURN = "break", "continue", "return"  # how a statement left its block, if not at its end


class Outcome(NamedTuple):
    """`value`: the finite number that the function returned (True is 1), else None; "ok" with None means that
    it returned something else. `trace`: the steps of that call as they ran, where asked for and "ok"."""

    status: str
    value: int | float | None = None
    trace: list[Step] | None = None


class Frame:
    """The names of one scope; `node` is the function whose body runs in it, None elsewhere."""

    __slots__ = ("run", "names", "parent", "node", "result")

    def __init__(
        self, run: Run, names: dict[str, Any], parent: "Frame | None" = None, node: ast.AST | None = None
    ):
        self.run, self.names, self.parent, self.node, self.result = run, names, parent, node, None

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


class Function:
    __slots__ = ("node", "frame", "defaults")

    def __init__(self, node: ast.FunctionDef | ast.Lambda, frame: Frame, defaults: list):
        self.node, self.frame, self.defaults = node, frame, defaults


def run(code: str, trace: bool = False) -> Outcome:
    """Run a program: its module, then without arguments `simple_math_problem`, or else the last function.

    Never raises, prints, or keeps anything of the program's."""
    names: dict[str, Any] = {"__name__": "program"}
    try:
        tree = parse(code)
        state = Run(invoke)
        if block(Frame(state, names), tree.body) is not None:
            raise Stop("syntax")
        state.trace = [] if trace else None
        value = state.bounded(invoke(state, entry(names), [], {}))
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
    return Outcome("ok", value, state.trace)


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
    if len(nodes) > NODES:
        raise Stop("limit")
    if returns_outside(tree.body):
        raise Stop("syntax")
    return tree


def returns_outside(body: list) -> bool:
    """`return` at module level: Python's compiler refuses it, its parser does not."""
    return any(
        node.__class__ is ast.Return
        or node.__class__ in (ast.If, ast.For, ast.While)
        and returns_outside(node.body + node.orelse)
        for node in body
    )


def entry(names: dict[str, Any]) -> Function:
    functions = {
        name: value
        for name, value in names.items()
        if value.__class__ is Function and value.node.__class__ is ast.FunctionDef
    }
    if not functions:
        raise Stop("no_function")
    return functions.get("simple_math_problem") or functions.popitem()[1]


# --- calls --------------------------------------------------------------------------------------------------


def invoke(run: Run, function: Any, arguments: list, keywords: dict[str, Any]) -> Any:
    run.spend(1)
    if function.__class__ is Function:
        return enter(run, function, arguments, keywords)
    if function.__class__ is not Builtin:
        raise TypeError("not callable")
    if run.trace is None or not function.traced:
        return run.bounded(function.call(run, *arguments, **keywords))
    arguments = [list(a) if a.__class__ is GeneratorType else a for a in arguments]
    value = run.bounded(function.call(run, *arguments, **keywords))
    run.record(
        function.name,
        tuple(
            tuple(a) if a.__class__ in CONTAINERS or a.__class__ is range else a
            for a in (*arguments, *keywords.values())
        ),
        value,
    )
    return value


def enter(run: Run, function: Function, arguments: list, keywords: dict[str, Any]) -> Any:
    node = function.node
    parameters = [a.arg for a in node.args.args]
    names = dict(zip(parameters, arguments))
    if len(arguments) > len(parameters) or keywords.keys() & names or keywords.keys() - set(parameters):
        raise TypeError("arguments do not fit")
    names |= keywords
    for name, value in zip(reversed(parameters), reversed(function.defaults)):
        names.setdefault(name, value)
    if len(names) < len(parameters):
        raise TypeError("arguments are missing")
    if run.depth >= CALLS:
        raise Stop("limit")
    frame = Frame(run, names, function.frame, node)
    run.spend(5)
    run.depth += 1
    try:
        if node.__class__ is ast.Lambda:
            return DO[node.body.__class__](frame, node.body)
        if block(frame, node.body) in (BREAK, CONTINUE):
            raise Stop("syntax")
        return frame.result
    finally:
        run.depth -= 1


def bound_names(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """The names that are local to a function because something in its body binds them."""
    found = getattr(function, "bound_names", None)
    if found is None:
        found = function.bound_names = {a.arg for a in function.args.args}
        nodes = list(function.body) if function.__class__ is ast.FunctionDef else [function.body]
        for node in nodes:
            if node.__class__ is ast.Name and node.ctx.__class__ is ast.Store:
                found.add(node.id)
            elif node.__class__ is ast.FunctionDef:
                found.add(node.name)
            elif node.__class__ is ast.alias:
                found.add(node.asname or node.name)
            if node.__class__ not in SCOPES:
                nodes.extend(ast.iter_child_nodes(node))
    return found


# --- expressions: the meaning of a node is its value --------------------------------------------------------


def load(f: Frame, node: ast.Name) -> Any:
    value = f.names.get(node.id, MISSING)
    return f.find(node.id) if value is MISSING else value


def binary(f: Frame, node: ast.BinOp) -> Any:
    a = DO[node.left.__class__](f, node.left)
    return arithmetic(f.run, node.op.__class__, a, DO[node.right.__class__](f, node.right))


def unary(f: Frame, node: ast.UnaryOp) -> Any:
    operand = DO[node.operand.__class__](f, node.operand)
    value = UNARY[node.op.__class__](operand)
    if node.op.__class__ is ast.USub and node.operand.__class__ is not ast.Constant:
        f.run.record("-", (operand,), value)
    return value


def comparison(f: Frame, node: ast.Compare) -> Any:
    left = DO[node.left.__class__](f, node.left)
    for op, right in zip(node.ops, node.comparators):
        right = DO[right.__class__](f, right)
        value = compare(f.run, op.__class__, left, right)
        if not value:
            return value
        left = right
    return value


def boolean(f: Frame, node: ast.BoolOp) -> Any:
    stops_at = node.op.__class__ is ast.Or
    for part in node.values:
        value = DO[part.__class__](f, part)
        if bool(value) is stops_at:
            break
    return value


def conditional(f: Frame, node: ast.IfExp) -> Any:
    branch = node.body if DO[node.test.__class__](f, node.test) else node.orelse
    return DO[branch.__class__](f, branch)


def walrus(f: Frame, node: ast.NamedExpr) -> Any:
    value = DO[node.value.__class__](f, node.value)
    while f.node is None and f.parent is not None:  # out of comprehensions
        f = f.parent
    f.names[node.target.id] = value
    return value


def spread(f: Frame, nodes: list) -> list:
    """The values of expressions, those of `*iterables` in their place."""
    values: list = []
    for node in nodes:
        if node.__class__ is ast.Starred:
            values.extend(f.run.metered(DO[node.value.__class__](f, node.value)))
        else:
            values.append(DO[node.__class__](f, node))
    f.run.spend(len(values) + 1)
    return values


def dictionary(f: Frame, node: ast.Dict) -> dict:
    made: dict = {}
    f.run.spend(3)
    for key, value in zip(node.keys, node.values):
        key = DO[key.__class__](f, key)
        set_item(f.run, made, key, DO[value.__class__](f, value))
    return made


def subscript(f: Frame, node: ast.Subscript) -> Any:
    value = DO[node.value.__class__](f, node.value)
    key = DO[node.slice.__class__](f, node.slice)
    if value.__class__ not in (list, tuple, str, dict, range):
        raise TypeError("not subscriptable")
    f.run.weigh(key)
    if key.__class__ is slice and value.__class__ is not range:
        f.run.spend(len(value))
    return value[key]


def attribute(f: Frame, node: ast.Attribute) -> Any:
    value = DO[node.value.__class__](f, node.value)
    if value.__class__ is Module:
        return value.names[node.attr] if node.attr in value.names else deny()
    if value.__class__ in NUMBERS | {complex} and node.attr in ("real", "imag"):
        return getattr(value, node.attr)
    method = METHODS.get(value.__class__, {}).get(node.attr) or deny()
    f.run.spend(3)
    return Builtin(node.attr, lambda run, *arguments, **keywords: method(run, value, *arguments, **keywords))


def f_string(f: Frame, node: ast.JoinedStr) -> str:
    parts = [DO[part.__class__](f, part) for part in node.values]
    f.run.weigh(parts)
    return "".join(parts)


def f_string_field(f: Frame, node: ast.FormattedValue) -> str:
    value = DO[node.value.__class__](f, node.value)
    spec = DO[ast.JoinedStr](f, node.format_spec) if node.format_spec else ""
    if node.conversion == -1:
        return text(f.run, value, spec)
    text(f.run, value)
    return text(f.run, {"s": str, "r": repr, "a": ascii}[chr(node.conversion)](value), spec)


def call(f: Frame, node: ast.Call) -> Any:
    function = DO[node.func.__class__](f, node.func)
    arguments = spread(f, node.args)
    keywords = {keyword.arg: DO[keyword.value.__class__](f, keyword.value) for keyword in node.keywords}
    return invoke(f.run, function, arguments, keywords)


def closure(f: Frame, node: ast.Lambda | ast.FunctionDef) -> Function:
    if node.args.posonlyargs or node.args.vararg or node.args.kwonlyargs or node.args.kwarg:
        deny()
    f.run.spend(5)
    return Function(node, f, [DO[default.__class__](f, default) for default in node.args.defaults])


def generator(f: Frame, node: ast.GeneratorExp) -> Iterator:
    f.run.spend(LAZY)
    return each(f, node)


def each(f: Frame, node: ast.GeneratorExp | ast.ListComp | ast.SetComp) -> Iterator:
    scope, turns = comprehension(f, node.generators)
    return (DO[node.elt.__class__](scope, node.elt) for _ in turns)


def dict_comprehension(f: Frame, node: ast.DictComp) -> dict:
    scope, turns = comprehension(f, node.generators)
    made: dict = {}
    for _ in turns:
        key = DO[node.key.__class__](scope, node.key)
        set_item(f.run, made, key, DO[node.value.__class__](scope, node.value))
    return made


def comprehension(f: Frame, loops: list[ast.comprehension]) -> tuple[Frame, Iterator[None]]:
    """A comprehension's own scope, and its turns; the first iterable belongs to the scope around it."""
    if any(loop.is_async for loop in loops):
        deny()
    f.run.spend(10)
    scope = Frame(f.run, {}, f)
    return scope, iterate(scope, loops, iter(DO[loops[0].iter.__class__](f, loops[0].iter)))


def iterate(scope: Frame, loops: list[ast.comprehension], source: Iterator) -> Iterator[None]:
    """Bind the targets of the `for … in … if …` clauses: a turn each time that the innermost is reached."""
    for item in source:
        scope.run.spend(1)
        bind(scope, loops[0].target, item)
        if not all(DO[test.__class__](scope, test) for test in loops[0].ifs):
            continue
        if len(loops) == 1:
            yield
        else:
            yield from iterate(scope, loops[1:], iter(DO[loops[1].iter.__class__](scope, loops[1].iter)))


# --- statements return how they left their block ------------------------------------------------------------


def block(f: Frame, body: list[ast.stmt]) -> str | None:
    run = f.run
    for node in body:
        run.fuel -= 1
        if run.fuel < run.next_check:
            run.check()
        left = DO[node.__class__](f, node)
        if left is not None:
            return left
    return None


def annotated(f: Frame, node: ast.AnnAssign) -> None:
    if f.node is None:
        check_annotation(f, node.annotation)
    if node.value is not None:
        assign(f, [node.target], node.value)


def expression(f: Frame, node: ast.Expr) -> None:
    DO[node.value.__class__](f, node.value)


def assign(f: Frame, targets: list[ast.expr], expression: ast.expr) -> None:
    trace = f.run.trace
    before = len(trace) if trace is not None else 0
    value = DO[expression.__class__](f, expression)
    for target in targets:
        bind(f, target, value)
    if trace is not None and len(trace) > before:
        name_last_step(trace, value, targets[0])


def name_last_step(trace: list[Step], value: Any, target: ast.expr) -> None:
    if trace[-1].value is value and target.__class__ is ast.Name:
        trace[-1] = trace[-1]._replace(name=target.id)


def augmented(f: Frame, node: ast.AugAssign) -> None:
    run, target = f.run, node.target
    if target.__class__ is ast.Name:
        old = load(f, target)
    else:
        container, key = place(f, target)
        old = container[key]
    value = arithmetic(run, node.op.__class__, old, DO[node.value.__class__](f, node.value), in_place=True)
    if target.__class__ is ast.Name:
        f.names[target.id] = value
    else:
        set_item(run, container, key, value)
    if run.trace:
        name_last_step(run.trace, value, target)


def bind(f: Frame, target: ast.expr, value: Any) -> None:
    if target.__class__ is ast.Name:
        f.names[target.id] = value
    elif target.__class__ is ast.Subscript:
        set_item(f.run, *place(f, target), value)
    elif target.__class__ is ast.Tuple or target.__class__ is ast.List:
        values = list(f.run.metered(value))
        stars = [i for i, part in enumerate(target.elts) if part.__class__ is ast.Starred]
        if stars:
            end = len(values) - len(target.elts) + stars[0] + 1
            values = values[: stars[0]] + [values[stars[0] : end]] + values[max(end, stars[0]) :]
        if len(values) != len(target.elts):
            raise ValueError("wrong number of values to unpack")
        for part, value in zip(target.elts, values):
            bind(f, part.value if part.__class__ is ast.Starred else part, value)
    else:
        deny()


def place(f: Frame, target: ast.expr) -> tuple[Any, Any]:
    """The container and key that `container[key]` stores to."""
    if target.__class__ is not ast.Subscript or target.slice.__class__ is ast.Slice:
        deny()
    container = DO[target.value.__class__](f, target.value)
    if container.__class__ not in (list, dict):
        raise TypeError("does not support item assignment")
    key = DO[target.slice.__class__](f, target.slice)
    f.run.weigh(key)
    return container, key


def set_item(run: Run, container: list | dict, key: Any, value: Any) -> None:
    run.weigh(key)
    run.spend(2)
    container[key] = value


def for_loop(f: Frame, node: ast.For) -> str | None:
    for item in DO[node.iter.__class__](f, node.iter):
        f.run.spend(1)
        bind(f, node.target, item)
        left = block(f, node.body)
        if left is BREAK or left is RETURN:
            return None if left is BREAK else RETURN
    return block(f, node.orelse)


def while_loop(f: Frame, node: ast.While) -> str | None:
    while DO[node.test.__class__](f, node.test):
        f.run.spend(1)
        left = block(f, node.body)
        if left is BREAK or left is RETURN:
            return None if left is BREAK else RETURN
    return block(f, node.orelse)


def returning(f: Frame, node: ast.Return) -> str:
    f.result = None if node.value is None else DO[node.value.__class__](f, node.value)
    return RETURN


def define(f: Frame, node: ast.FunctionDef) -> None:
    made = closure(f, node) if not node.decorator_list else deny()
    for annotation in (*(a.annotation for a in node.args.args), node.returns):
        check_annotation(f, annotation)
    f.names[node.name] = made


def check_annotation(f: Frame, node: ast.expr | None) -> None:
    """An annotation means nothing here, but a name in it that does not exist is an error in Python."""
    for part in ast.walk(node) if node is not None else ():
        if part.__class__ is ast.Name:
            load(f, part)


def import_module(f: Frame, node: ast.Import) -> None:
    for alias in node.names:
        f.names[alias.asname or alias.name] = MATH if alias.name == "math" else deny()


def import_names(f: Frame, node: ast.ImportFrom) -> None:
    if node.module != "math" or node.level:
        deny()
    for alias in node.names:
        if alias.name == "*" and f.node is None:
            f.names.update(MATH.names)
        elif alias.name in MATH.names:
            f.names[alias.asname or alias.name] = MATH.names[alias.name]
        else:
            raise ImportError(alias.name)  # or, of a * in a function, a SyntaxError


def fail(f: Frame, node: ast.Raise | ast.Assert) -> None:
    if node.__class__ is ast.Raise or not DO[node.test.__class__](f, node.test):
        raise Stop("error")  # there is no `except` that could see which


# --- the grammar: every kind of node that a program may hold ------------------------------------------------

DO: dict[type, Callable[[Frame, Any], Any]] = {
    ast.Constant: lambda f, node: node.value if node.value.__class__ in LITERALS else deny(),
    ast.Name: load,
    ast.BinOp: binary,
    ast.UnaryOp: unary,
    ast.Compare: comparison,
    ast.BoolOp: boolean,
    ast.IfExp: conditional,
    ast.NamedExpr: walrus,
    ast.Subscript: subscript,
    ast.Attribute: attribute,
    ast.Call: call,
    ast.Slice: lambda f, node: slice(
        *(part and DO[part.__class__](f, part) for part in (node.lower, node.upper, node.step))
    ),
    ast.List: lambda f, node: spread(f, node.elts),
    ast.Tuple: lambda f, node: tuple(spread(f, node.elts)),
    ast.Set: lambda f, node: make_set(f.run, spread(f, node.elts)),
    ast.Dict: dictionary,
    ast.JoinedStr: f_string,
    ast.FormattedValue: f_string_field,
    ast.Lambda: closure,
    ast.GeneratorExp: generator,
    ast.ListComp: lambda f, node: list(each(f, node)),
    ast.SetComp: lambda f, node: make_set(f.run, each(f, node)),
    ast.DictComp: dict_comprehension,
    ast.Expr: expression,
    ast.Assign: lambda f, node: assign(f, node.targets, node.value),
    ast.AnnAssign: annotated,
    ast.AugAssign: augmented,
    ast.If: lambda f, node: block(f, node.body if DO[node.test.__class__](f, node.test) else node.orelse),
    ast.For: for_loop,
    ast.While: while_loop,
    ast.Break: lambda f, node: BREAK,
    ast.Continue: lambda f, node: CONTINUE,
    ast.Pass: lambda f, node: None,
    ast.Return: returning,
    ast.FunctionDef: define,
    ast.Import: import_module,
    ast.ImportFrom: import_names,
    ast.Assert: fail,
    ast.Raise: fail,
}
SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
INSIDE = (ast.Module, ast.Starred, ast.keyword, ast.comprehension, ast.arguments, ast.arg, ast.alias)
NOT_NODES = {
    "arg",
    "asname",
    "attr",
    "conversion",
    "ctx",
    "id",
    "is_async",
    "kind",
    "level",
    "module",
    "name",
    "op",
    "ops",
    "simple",
    "type_comment",
    "type_ignores",
}


class Grammar(dict):
    def __missing__(self, kind: type) -> Any:
        deny()


CHILDREN = Grammar(
    {kind: tuple(field for field in kind._fields if field not in NOT_NODES) for kind in (*DO, *INSIDE)}
)
CHILDREN[ast.Constant] = ()


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
