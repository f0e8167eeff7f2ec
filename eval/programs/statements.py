"""Statements: the meaning of a node is how it left its block, None at its end."""

import ast
from typing import Any

from eval.programs.expressions import bind, closure, load, place, set_item
from eval.programs.frames import BREAK, CONTINUE, DO, RETURN, Frame, block, meaning_of
from eval.programs.library import MATH
from eval.programs.machine import Operation, Stop, deny
from eval.programs.operators import arithmetic


@meaning_of(ast.Expr)
def expression(frame: Frame, node: ast.Expr) -> None:
    DO[node.value.__class__](frame, node.value)


# --- assignments ----------------------------------------------------------------------------------------------


@meaning_of(ast.Assign)
def assigned(frame: Frame, node: ast.Assign) -> None:
    assign(frame, node.targets, node.value)


@meaning_of(ast.AnnAssign)
def annotated(frame: Frame, node: ast.AnnAssign) -> None:
    if frame.node is None:
        check_annotation(frame, node.annotation)
    if node.value is not None:
        assign(frame, [node.target], node.value)


def assign(frame: Frame, targets: list[ast.expr], expression: ast.expr) -> None:
    trace = frame.machine.trace
    before = len(trace) if trace is not None else 0
    value = DO[expression.__class__](frame, expression)
    for target in targets:
        bind(frame, target, value)
    if trace is not None and len(trace) > before:
        name_last_step(trace, value, targets[0])


def name_last_step(trace: list[Operation], value: Any, target: ast.expr) -> None:
    if trace[-1].value is value and target.__class__ is ast.Name:
        trace[-1] = trace[-1]._replace(name=target.id)


@meaning_of(ast.AugAssign)
def augmented(frame: Frame, node: ast.AugAssign) -> None:
    machine, target = frame.machine, node.target
    if target.__class__ is ast.Name:
        old = load(frame, target)
    else:
        container, key = place(frame, target)
        old = container[key]
    operand = DO[node.value.__class__](frame, node.value)
    value = arithmetic(machine, node.op.__class__, old, operand, in_place=True)
    if target.__class__ is ast.Name:
        frame.names[target.id] = value
    else:
        set_item(machine, container, key, value)
    if machine.trace:
        name_last_step(machine.trace, value, target)


# --- control --------------------------------------------------------------------------------------------------


@meaning_of(ast.If)
def if_else(frame: Frame, node: ast.If) -> str | None:
    return block(frame, node.body if DO[node.test.__class__](frame, node.test) else node.orelse)


@meaning_of(ast.For)
def for_loop(frame: Frame, node: ast.For) -> str | None:
    for item in DO[node.iter.__class__](frame, node.iter):
        frame.machine.spend(1)
        bind(frame, node.target, item)
        left = block(frame, node.body)
        if left is BREAK or left is RETURN:
            return None if left is BREAK else RETURN
    return block(frame, node.orelse)


@meaning_of(ast.While)
def while_loop(frame: Frame, node: ast.While) -> str | None:
    while DO[node.test.__class__](frame, node.test):
        frame.machine.spend(1)
        left = block(frame, node.body)
        if left is BREAK or left is RETURN:
            return None if left is BREAK else RETURN
    return block(frame, node.orelse)


@meaning_of(ast.Break)
def break_out(frame: Frame, node: ast.Break) -> str:
    return BREAK


@meaning_of(ast.Continue)
def continue_on(frame: Frame, node: ast.Continue) -> str:
    return CONTINUE


@meaning_of(ast.Pass)
def pass_by(frame: Frame, node: ast.Pass) -> None:
    return None


@meaning_of(ast.Return)
def return_from(frame: Frame, node: ast.Return) -> str:
    frame.result = None if node.value is None else DO[node.value.__class__](frame, node.value)
    return RETURN


@meaning_of(ast.Raise, ast.Assert)
def fail(frame: Frame, node: ast.Raise | ast.Assert) -> None:
    if node.__class__ is ast.Raise or not DO[node.test.__class__](frame, node.test):
        raise Stop("error")  # there is no `except` that could see which


# --- functions and modules ------------------------------------------------------------------------------------


@meaning_of(ast.FunctionDef)
def define(frame: Frame, node: ast.FunctionDef) -> None:
    function = closure(frame, node) if not node.decorator_list else deny()
    for annotation in (*(a.annotation for a in node.args.args), node.returns):
        check_annotation(frame, annotation)
    frame.names[node.name] = function


def check_annotation(frame: Frame, node: ast.expr | None) -> None:
    """An annotation means nothing here, but a name in it that does not exist is an error in Python."""
    for part in ast.walk(node) if node is not None else ():
        if part.__class__ is ast.Name:
            load(frame, part)


@meaning_of(ast.Import)
def import_module(frame: Frame, node: ast.Import) -> None:
    for alias in node.names:
        frame.names[alias.asname or alias.name] = MATH if alias.name == "math" else deny()


@meaning_of(ast.ImportFrom)
def import_names(frame: Frame, node: ast.ImportFrom) -> None:
    if node.module != "math" or node.level:
        deny()
    for alias in node.names:
        if alias.name == "*" and frame.node is None:
            frame.names.update(MATH.names)
        elif alias.name in MATH.names:
            frame.names[alias.asname or alias.name] = MATH.names[alias.name]
        else:
            raise ImportError(alias.name)  # or, of a * in a function, a SyntaxError
