"""How the house is built: which way imports point, and how long a file is."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from pipeline.files import ROOT

FOLDERS = ("pipeline", "tokenizer", "eval", "pretrain", "sft", "rl", "scripts")
BELOW = {  # what each may import of the project, besides itself
    "pipeline": set(),
    "cross_entropy": set(),
    "model": {"pipeline", "cross_entropy"},
    "muon": set(),
    "training": {"pipeline", "model", "muon"},
    "finetuning": {"pipeline", "model", "training"},
    "tokenizer": {"pipeline"},
    "eval": {"pipeline", "tokenizer", "model"},
    "pretrain": {"pipeline", "tokenizer", "model", "muon", "training", "eval"},
    "sft": {"pipeline", "tokenizer", "cross_entropy", "model", "training", "finetuning", "eval"},
    "rl": {"pipeline", "tokenizer", "cross_entropy", "model", "training", "finetuning", "eval"},
    "scripts": {"pipeline", "tokenizer", "cross_entropy", "model", "training", "finetuning", "eval"}
    | {"pretrain", "sft", "rl"},
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
}
LONGEST = 330  # lines
TABLES = {"pipeline.sections", "pipeline.sample.templates"}  # data, and the keys of the experiment file


def imports(name):
    """Every module of the project that a module imports, wherever in the file it does."""
    imported = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {module if module in FILES else node.module for module in modules}
    return {module for module in imported if module in FILES} - {name}


GRAPH = {name: imports(name) for name in FILES}


def test_no_two_files_import_each_other_in_a_circle():
    try:
        list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    own = name.split(".")[0]
    above = {module for module in GRAPH[name] if module.split(".")[0] not in BELOW[own] | {own}}
    assert not above, f"{name} imports {above}, which lie above it or beside it"


@pytest.mark.parametrize("name", sorted(FILES.keys() - TABLES))
def test_a_file_can_be_read_in_one_go(name):
    assert len(FILES[name].read_text().splitlines()) <= LONGEST


def test_no_class_is_named_twice():
    owners = {}
    for name, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, []).append(name)
    assert {name: modules for name, modules in owners.items() if len(modules) > 1} == {}
