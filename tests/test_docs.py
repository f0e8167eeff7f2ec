"""Every command in the documents is read out of them and held against the scripts, modules, flags and files there are."""

import contextlib
import functools
import importlib.util
import io
import re
import runpy
import shlex
import sys
import warnings

import pytest

from pipeline.experiment import load
from pipeline.files import ROOT
from pipeline.kinds import KINDS

DOCUMENTS = ["README.md", "REPLICATION.md", "experiments/results/README.md"]
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:bash scripts/|python3? -m |torchrun )")
FOREIGN = {"pytest", "venv", "pip"}


def commands(name):
    """Commands of a document: lines of fenced or indented blocks, and inline code; continuation lines joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return sorted(
        {
            re.split(r"\s+#\s|\s*[|>]\s", line.removeprefix("$ "))[0].strip()
            for line in lines
            if COMMAND.match(line.removeprefix("$ "))
        }
    )


ALL = [(name, command) for name in DOCUMENTS if (ROOT / name).exists() for command in commands(name)]


@functools.cache
def help_of(module, *subcommand):
    """What `python -m MODULE --help` prints; in this process, since a new one imports torch first."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setattr(sys, "argv", [module, *subcommand, "--help"])
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")
    assert not ended.value.code
    return printed.getvalue()


def test_the_documents_have_commands():
    assert {name for name, _ in ALL} == set(DOCUMENTS)
    assert {"bash scripts/quickstart.sh", "bash scripts/test.sh"} <= {
        command for name, command in ALL if name == "README.md"
    }


@pytest.mark.parametrize("name, command", ALL)
def test_a_documented_command_exists_with_its_flags_and_files(name, command):
    words = [word for word in shlex.split(command) if not re.match(r"^[A-Z_]+=", word)]
    for path in re.findall(r"experiments/[\w.-]+\.yaml", command):
        load(ROOT / path)
    if words[0] == "bash":
        script, words = words[1], words[2:]
        assert (ROOT / script).is_file(), script
        kind = script.removeprefix("scripts/").removesuffix(".sh")
        module = KINDS[kind].module if kind in KINDS else {"compare": "eval.verdict.compare"}.get(kind)
    else:
        at = words.index("-m") + 1
        module, words = words[at], words[at + 1 :]
    if len(words) >= 3 and words[0].endswith(".yaml") and words[2].isdigit():
        load(ROOT / words[0]).find_arm(words[1], int(words[2]))
    if module in FOREIGN or module is None:
        return
    assert importlib.util.find_spec(module), module
    subcommand = words[:1] if module in ("experiment", "data") and words else []
    for flag in (word.split("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", help_of(module, *subcommand)), f"{module} has no {flag}"
