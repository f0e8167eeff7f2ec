"""Whatever is done to the files of a run, every command that reads them says one line, and the right one."""

import contextlib
import json

import pytest

from pipeline import stage
from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT
from pipeline.identity import stage_dir
from pipeline.results import read_result
from pipeline.status import state

QUICKSTART = str(ROOT / "experiments/quickstart.yaml")
ARM = [QUICKSTART, "mul_tokens", "0"]


def finish(kind, name=None, resumable=False):
    with stage.begin(kind, [*ARM, *filter(None, [name])], "", resumable) as run:
        if run:
            (run.dir / "out.json").write_text("made")
            run.finish(["out.json"], prompts={2: 3, 10: (4, 5.0)})


def path_of(name):
    return stage_dir(load(QUICKSTART), "mul_tokens", 0, name)


def edited(content, keys, value):
    content = json.loads(content)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(content)


SHAPES = [
    "[]",
    "3",
    "null",
    '"text"',
    "true",
    "{}",
    "NaN",
    '{"identity": NaN}',
    "1e999",
    "",
    "{",
    "\0\0\0",
    "\ud800",
]
DAMAGE = {
    **{repr(text)[:20]: lambda old, text=text: text for text in SHAPES},
    "too deep": lambda old: '{"identity": ' + "[" * 100_000,
    "cut": lambda old: old[: len(old) // 2],
    "a long number": lambda old: '{"identity": ' + "9" * 5000 + "}",
    "a number as record": lambda old: edited(old, ["record"], 3),
    "a list as identity": lambda old: edited(old, ["identity"], []),
    "another key": lambda old: edited(old, ["more"], 1),
    "a changed record": lambda old: edited(old, ["record", "host"], "elsewhere"),
    "a record of another shape": lambda old: edited(old, ["record", "versions"], 7),
}
RESULTS = DAMAGE | {
    f"{key} is {value!r}": lambda old, key=key, value=value: edited(old, ["identity", key], value)
    for key in ("section", "condition", "tokenizer", "data", "outputs")
    for value in (None, 3, [], True)
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two finished stages, and a third that was stopped; every test leaves them as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS", str(tmp_path_factory.mktemp("runs")))
        finish("prepare")
        finish("pretrain")
        with stage.begin("export", ARM, "", resumable=True):
            pass
        yield


@contextlib.contextmanager
def damaged(path, change):
    before = path.read_text()
    path.write_bytes(change(before).encode("utf-8", "surrogatepass"))
    yield
    path.write_text(before)


def one_line(raised):
    return "\n" not in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize("change", RESULTS.values(), ids=RESULTS)
def test_a_damaged_stage_json_is_one_line_in_every_command(finished, change, capsys):
    path = path_of("pretrain") / "stage.json"
    with damaged(path, change):
        with pytest.raises(UserError, match=r"stage\.json: ") as raised:
            read_result(path.parent)
        assert one_line(raised) and "remove the stage's directory and rerun it" in str(raised.value)
        main(["status", QUICKSTART])
        assert "damaged" in capsys.readouterr().out
        main(["todo", *ARM])
        assert "pretrain pretrain" in capsys.readouterr().out.splitlines()
        for kind in ("pretrain", "export"):
            with pytest.raises(UserError) as raised:
                finish(kind)
            assert one_line(raised) and str(path) in str(raised.value)


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_started_json_is_one_line(finished, change, capsys):
    with damaged(path_of("export") / "started.json", change):
        main(["status", QUICKSTART])
        with pytest.raises(UserError, match=r"started\.json: ") as raised:
            finish("export", resumable=True)
        assert one_line(raised) and "remove the stage's directory and rerun it" in str(raised.value)


def test_damaged_progress_is_told_and_stops_nothing(runs, capsys):
    experiment = load(QUICKSTART)
    with pytest.raises(RuntimeError), stage.begin("prepare", ARM, "") as run:
        run.bar(10, "rows").update(3)
        raise RuntimeError("no luck")
    for name in ("progress.json", "failed.json"):
        for text in (*SHAPES, '{"done": [], "total": 1, "unit": "x", "eta": 0, "error": 3}'):
            with damaged(path_of("prepare") / name, lambda old, text=text: text):
                what, detail = state(experiment, "mul_tokens", 0, "prepare")
                assert what == "damaged" and name in detail and "\n" not in detail, text
    for name in ("progress.json", "failed.json"):
        (path_of("prepare") / name).write_text("3")
    finish("prepare")
    assert state(experiment, "mul_tokens", 0, "prepare")[0] == "done"


@pytest.mark.parametrize("name", ["stage.json", "started.json"])
def test_overwrite_takes_what_is_damaged_aside(runs, name):
    finish("prepare")
    (path_of("prepare") / "stage.json").unlink()
    (path_of("prepare") / name).write_text("[]")
    with stage.begin("prepare", [*ARM, "--overwrite"], "") as run:
        run.finish([])
    assert len(list(path_of("prepare").parent.glob("*.old-*"))) == 1
