"""A vocabulary that breaks its contract is refused in one line, and one that has changed is another tokenizer."""

import re
import shutil
from collections import Counter
from types import SimpleNamespace

import pytest

from eval.tasks import probes
from pipeline import hooks
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from pretrain import prepare
from tokenizer import build, vocabulary
from tokenizer.conditions import Condition
from tokenizer.vocabularies import multiplication, squares, sums

QUICKSTART = ROOT / "experiments/quickstart.yaml"
FIND, SPELL, PROBES = multiplication.find, multiplication.spell, multiplication.probes
FALSE = "6 * 9 = 55"


def takes(text: str):
    """A `find` that takes this text too, wherever it stands."""

    def find(t, weak=False):
        at = t.find(text)
        return FIND(t, weak) if at < 0 or FIND(t, weak) else [(at, at + len(text), 38)]

    return find


FAULTS = {
    "FACTS is not a tuple": {"FACTS": ()},
    "not a name like": {"FACTS": ("<MUL 1>", *multiplication.FACTS[1:])},
    r"not a name like .*": {"FACTS": ("<|pad|>", *multiplication.FACTS[1:])},
    "names a fact twice": {"FACTS": (*multiplication.FACTS[:44], "<MUL_1_1_1>")},
    r"cell\(7\) is None, not \(row, column\)": {"cell": lambda i: (i, i) if i != 7 else None},
    r"cell\(1\) is \(0, 0\), which is cell\(0\) too": {"cell": lambda i: (0, 0)},
    r"find\(text\) does not take": {"find": lambda text: FIND(text)},
    r"work\(a, b\) does not take": {"work": lambda a, b: None},
    r"spell\(0\) is '1 \* 1 = 1', not \(expression, value\)": {"spell": lambda i: " = ".join(SPELL(i))},
    r"spell\(0\) .* spaces to spare": {"spell": lambda i: (SPELL(i)[0] + " ", SPELL(i)[1])},
    "find gives .* for <MUL_1_1_1> .*not that fact once": {"find": lambda t, weak=False: []},
    "find gives .*not that fact once": {"find": lambda t, weak=False: FIND(t, weak) * 2},
    "find with weak gives": {"find": lambda t, weak=False: [] if weak else FIND(t)},
    "takes the false '6 \\* 9 = 55'": {"find": takes(FALSE)},
    "takes the false '6 \\* 9 = 540'": {"find": takes("6 * 9 = 54")},
    "takes the false '16 \\* 9 = 54'": {"find": lambda t, weak=False: FIND(t.replace("16 * 9", "6 * 9"), weak)},
    "find gives a tuple, not a list": {"find": lambda t, weak=False: FIND(t, weak) if t.count("=") == 1 else ()},
    "out of order or overlap": {"find": lambda t, weak=False: FIND(t, weak)[::-1]},
    "find gives an index beyond FACTS": {"find": lambda t, weak=False: [(0, 1, 99)] if t == " " else FIND(t, weak)},
    "does not give every fact once": {"find": lambda t, weak=False: FIND(t, weak)[:9]},
    r"work\(.*\) is .*neither None nor a list of steps": {"work": lambda a, op, b: "6 * 9 = 54"},
    r"probes\(\) is not a dictionary": {"probes": lambda: []},
    r"probes\(\): 'a/b' is no name": {"probes": lambda: {"a/b": [("1 * 1", "1")]}},
    r"probes\(\): 'table' is not a list of \(expression, value\)": {"probes": lambda: {"table": [("1 * 1", 1)]}},
    r"<lambda>, line \d+, raises ZeroDivisionError": {"cell": lambda i: 1 / 0},
    r"probes\(\): 'addition' is the name of the built-in kind": {"probes": lambda: {"addition": [("1 * 1", "1")]}},
    "the value 'six' of '2 \\* 3' is not read as a number": {"probes": lambda: {"table": [("2 * 3", "six")]}},
    "'2 \\* 3 = 7' is false: it is 6": {"probes": lambda: {"table": [("2 * 3", "7")]}},
    r"work\(2, '\+', 3\): the step '2 \+ 3 = 6' is false": {"work": lambda a, op, b: [f"{a} {op} {b} = 6"]},
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_checked_yet():
    vocabulary.first_fault.cache_clear()
    probes.check_truth.cache_clear()
    yield
    vocabulary.first_fault.cache_clear()
    probes.check_truth.cache_clear()


@pytest.mark.parametrize("message", FAULTS)
def test_every_fault_is_one_line(message, monkeypatch):
    for name, value in FAULTS[message].items():
        monkeypatch.setattr(multiplication, name, value)
    with pytest.raises(UserError, match=f"^tokenizer/vocabularies/multiplication.py: .*{message}") as error:
        probes.check("multiplication")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["FACTS", "spell", "find", "work", "probes", "cell"])
def test_a_missing_name_stops_check_build_and_prepare_before_any_work(name, monkeypatch, runs):
    monkeypatch.delattr(multiplication, name)
    words = [str(QUICKSTART), "mul_tokens", "0"]
    for start in (lambda: load(QUICKSTART), lambda: build.main(words), lambda: prepare.main(words)):
        with pytest.raises(UserError, match=f"multiplication.py: has no .*{name}"):
            start()
    assert not runs.exists()


@pytest.mark.parametrize("module", [multiplication, squares, sums])
def test_those_that_ship_keep_the_contract(module):
    name = module.__name__.rpartition(".")[2]
    probes.check(name)
    assert len((ROOT / f"tokenizer/vocabularies/{name}.py").read_text().splitlines()) <= 80


def test_a_vocabulary_of_words_can_keep_it_too():
    """Nothing in the contract knows numbers."""
    spelled = [("The capital of France", "Paris"), ("The capital of Italy", "Rome")]

    def find(text, weak=False):
        matches = re.finditer(r"The capital of (\w+) = (\w+)", text)
        return [
            (m.start(), m.end(), "FI".index(m[1][0]))
            for m in matches
            if m[2] == dict(spelled).get(m[0].split(" = ")[0])
        ]

    words = SimpleNamespace(
        FACTS=("<FRANCE>", "<ITALY>"),
        spell=lambda index: spelled[index],
        find=find,
        work=lambda a, op, b: None,
        probes=lambda: {"capitals": spelled},
        cell=lambda index: (0, index),
    )
    assert list(vocabulary.faults(words)) == []


# --- identity -----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The project's own source of vocabularies, to be changed."""
    shutil.copytree(ROOT / "tokenizer", tmp_path / "tokenizer", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(vocabulary, "ROOT", tmp_path)
    return tmp_path


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize("file", ["vocabularies/multiplication.py", "lexer.py", "helper.py"])
def test_a_changed_source_is_another_tokenizer(copy, file):
    (copy / "tokenizer/helper.py").write_text("TABLE = 1\n")
    append(copy / "tokenizer/lexer.py", "\nfrom tokenizer import helper\n")
    condition = Condition("any", "token", "multiplication", 4096)
    names = [
        f"tokenizer/{name}"
        for name in ("__init__.py", "helper.py", "lexer.py", "vocabularies/multiplication.py")
    ]
    assert list(vocabulary.sources("multiplication")) == names
    before, fingerprint = condition.identity(), condition.fingerprint()
    append(copy / "tokenizer/vocabularies/squares.py", "\n# no concern of multiplication\n")
    assert condition.identity() == before
    append(copy / "tokenizer" / file, "\nMORE = 2\n")
    assert condition.identity() != before and condition.fingerprint() == fingerprint


def test_relative_imports_and_modules_are_followed(copy):
    (copy / "tokenizer/vocabularies/mine.py").write_text(
        "import json\nimport tokenizer.gpt2\nfrom . import squares\nfrom ..numbers import groups\n"
    )
    assert set(vocabulary.sources("mine")) >= {
        f"tokenizer/{name}.py"
        for name in ("vocabularies/mine", "gpt2", "vocabularies/squares", "numbers", "lexer")
    }


def test_a_finished_stage_of_a_changed_vocabulary_is_refused(copy, runs):
    words = [str(QUICKSTART), "mul_tokens", "0"]
    build.main(words)
    append(copy / "tokenizer/vocabularies/multiplication.py", "\n\ndef probes():\n    return {}\n")
    hooks._fingerprint.cache_clear()  # another process
    with pytest.raises(UserError, match="tokenizer: "):
        build.main(words)
    hooks._fingerprint.cache_clear()


# --- use ----------------------------------------------------------------------------------------------------


def test_rare_facts_are_counted_and_said():
    counts = Counter({str(i): 12 for i in range(40)} | {"40": 9})
    said = vocabulary.fact_use(multiplication, counts, 150_000)
    assert said == (
        "489 facts in 150,000 tokens, 3,260 a million; "
        "warning: 5 of 45 facts occur less than 10 times, 4 of them never, too rarely to be learned"
    )
    counts.update({str(i): 10 for i in range(45)})
    assert "warning" not in vocabulary.fact_use(multiplication, counts, 150_000)
    assert "45 of 45 facts" in vocabulary.fact_use(multiplication, Counter(), 0)
