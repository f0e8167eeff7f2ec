"""What the pipeline asks of the layers above it: looked up by module name when it is asked, imported by none."""

import importlib
from types import ModuleType


def tokenizer() -> ModuleType:
    """`tokenizer.conditions`: Condition.of(experiment, name) knows modes, vocabularies and their fingerprints."""
    return importlib.import_module("tokenizer.conditions")


def probes() -> ModuleType:
    return importlib.import_module("eval.tasks.probes")
