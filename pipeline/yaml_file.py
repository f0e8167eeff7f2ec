"""An experiment's YAML as plain values: what it extends merged in, and `--set` applied."""

import copy
import difflib
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError
from pipeline.files import ROOT

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # aliases written out: nested ones grow exponentially
MAX_DEPTH = 20


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in Python, and a key written twice is an error."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key}' is written twice", problem_mark=node.start_mark
                )
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None:
            _measure(node, {}, 0)
        return node


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _measure(node: yaml.Node, sizes: dict[int, int | None], depth: int) -> int:
    """How many values a node stands for. Raises YAMLError for too many, too deep ones, and circles."""
    if depth > MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels deep", problem_mark=node.start_mark)
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise yaml.MarkedYAMLError(problem="an alias within its own anchor", problem_mark=node.start_mark)
        return size
    sizes[id(node)] = None
    inner = node.value if isinstance(node, yaml.CollectionNode) else ()
    children = (child for each in inner for child in (each if isinstance(each, tuple) else (each,)))
    size = 1
    for child in children:
        size += _measure(child, sizes, depth + 1)
        if size > MAX_VALUES:
            message = f"stands for more than {MAX_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)
    sizes[id(node)] = size
    return size


@cache  # the stages of an arm read the same few files, a hundredth of a second each
def _values(text: str) -> Any:
    return yaml.load(text, _Loader)


def parse(text: str, where: str) -> Any:
    try:
        return copy.deepcopy(_values(text))
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{where}: not valid YAML: more than {MAX_DEPTH} levels deep") from None
    except (ValueError, OverflowError) as error:  # a date that there is not, an integer of 5,000 digits
        raise UserError(f"{where}: not valid YAML: {error}") from None


def read(path: Path) -> dict:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: has more than {MAX_BYTES:,} bytes, so it is no experiment file")
        text = content.decode("utf-8")
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in (ROOT / "experiments").glob("*.yaml")))
        raise UserError(f"{path}: no such experiment file; experiments/ has {there}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    values = parse(text, str(path))
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: an experiment file is a mapping with vocabulary, conditions, seeds and stages"
        )
    return values


def merge(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings merge, all else replaces, null removes."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = below | {key: merge(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in merged.items() if value is not None}


def resolve(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """The values of a file over those of the file that it extends."""
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself; remove one `extends`")
    content = read(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise UserError(f"{path}: extends: must be the path of another experiment file, not {str(base)[:60]}")
    return merge(resolve(path.parent / base, (*seen, path.resolve())), content)


def assign(content: dict, assignment: str, keys: list[str]) -> None:
    """Apply `stages.pretrain.lr=1e-3`. `keys` are those that a file may have at its top.

    Raises UserError, with the key that was meant if one is near, for a stage or a key that there is not.
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise UserError(f"--set {assignment}: write it as KEY=VALUE, for example stages.pretrain.lr=1e-3")
    first, *rest = key.split(".")
    stages = content.get("stages")
    names = [str(name) for name in stages] if isinstance(stages, dict) else []
    if first not in keys and (near := _near(first, [*names, *keys])):
        meant = ".".join([*(["stages"] if near in names else []), near, *rest])
        raise UserError(f"--set {assignment}: there is no '{first}'; did you mean {meant}?")
    if first == "stages" and len(rest) > 1 and rest[0] not in names:
        near = _near(rest[0], names)
        hint = (
            f"did you mean {'.'.join(['stages', near, *rest[1:]])}?"
            if near
            else f"there are {', '.join(names)}"
        )
        raise UserError(f"--set {assignment}: there is no stage '{rest[0]}'; {hint}")
    *parents, last = first, *rest
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise UserError(f"--set {assignment}: '{parent}' is a value and holds no keys")
    content[last] = parse(text, f"--set {assignment}")


def _near(key: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, known, 1)), None)
