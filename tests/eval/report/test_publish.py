"""What would go to the Hub, what stays, and the calls that send it; nothing here reaches a network."""

import inspect
import shutil

import pytest
from huggingface_hub import HfApi

from eval.report import publish
from pipeline.errors import UserError
from pipeline.files import read_json
from tests.eval import synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment of two arms, one of them unfinished, and what stands for its report; its file."""
    folder = tmp_path_factory.mktemp("study")
    path = synthetic.write_file(folder / "study.yaml", seeds=1, problems=4)
    with pytest.MonkeyPatch.context() as patch, synthetic.quick():
        patch.setenv("RUNS", str(folder / "runs"))
        synthetic.run(path, "baseline", 0)
        synthetic.run(path, "mul_tokens", 0, until="sft_tinygsm")
    figures = folder / "runs/study/report/figures"
    figures.mkdir(parents=True)
    (figures.parent / "report.html").write_text("a page")
    (figures / "accuracy.csv").write_text("condition\n")
    return path


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """A copy of it that a test may spoil; (file, folder of the experiment)."""
    shutil.copytree(made.parent, tmp_path / "copy")
    monkeypatch.setenv("RUNS", str(tmp_path / "copy/runs"))
    return tmp_path / "copy/study.yaml", tmp_path / "copy/runs/study"


class Hub:
    """Stands for HfApi, and remembers."""

    calls: list[tuple] = []

    def create_repo(self, repo_id, **words):
        self.calls.append(("create", repo_id, words))

    def upload_folder(self, repo_id, **words):
        self.calls.append(("upload", repo_id, words))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(Hub, "calls", [])
    monkeypatch.setattr(publish, "HfApi", Hub)
    monkeypatch.setattr(publish, "get_token", lambda: "hf_test")
    return Hub


def run(path, *words):
    publish.main([str(path), "lab", *words])


def everything(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


NAMES = ["lab/study-baseline-s0-export", "lab/study-baseline-s0-sft_tinygsm", "lab/study-baseline-s0-grpo"]


def test_a_dry_run_lists_what_goes_and_what_stays_without_network_token_or_change(study, monkeypatch, capsys):
    path, folder = study
    for name in ("HfApi", "get_token"):
        monkeypatch.setattr(publish, name, lambda: pytest.fail("a dry run asked the Hub"))
    before = everything(folder)
    run(path, "--dry-run")
    said = capsys.readouterr().out
    assert f"model {NAMES[0]}: 1 files, 0.0 kB\n    model.safetensors  0.0 kB\n" in said
    assert f"model {NAMES[1]}: " in said and f"model {NAMES[2]}: " in said
    assert "dataset lab/study-report: 2 files, 0.0 kB\n    figures/accuracy.csv  0.0 kB\n" in said
    assert "goes: 4 repositories, 5 files, " in said
    assert "stays: 1 of 2 arms, unfinished: mul_tokens-s0 (eval_sft_tinygsm waiting)" in said
    assert everything(folder) == before


def test_sizes_are_those_of_the_files(study):
    path, folder = study
    (folder / "report/big.pdf").write_bytes(bytes(2_340_000))
    found = publish.report(publish.load(path), "lab")
    assert found.sizes() == {"big.pdf": 2_340_000, "figures/accuracy.csv": 10, "report.html": 6}
    assert publish.listing([found], []).splitlines() == [
        "dataset lab/study-report: 3 files, 2.3 MB",
        "    big.pdf  2.3 MB",
        "    figures/accuracy.csv  0.0 kB",
        "    report.html  0.0 kB",
        "goes: 1 repositories, 3 files, 2.3 MB",
    ]


@pytest.mark.parametrize("words, private", [((), True), (("--public",), False)])
def test_every_model_and_the_report_are_pushed_private_unless_said_otherwise(study, hub, words, private):
    path, folder = study
    run(path, *words)
    assert [(call, name) for call, name, _ in hub.calls] == [
        (call, name) for name in (*NAMES, "lab/study-report") for call in ("create", "upload")
    ]
    kinds = ["model"] * 6 + ["dataset"] * 2
    assert [words["repo_type"] for _, _, words in hub.calls] == kinds
    for _, _, created in hub.calls[::2]:
        assert created["private"] is private and created["exist_ok"] is True
    first, last = hub.calls[1][2], hub.calls[-1][2]
    assert first["folder_path"] == folder / "baseline-s0/export/model"
    assert first["allow_patterns"] == ["model.safetensors"]
    assert last["folder_path"] == folder / "report"
    assert last["allow_patterns"] == ["figures/accuracy.csv", "report.html"]


def test_a_file_that_is_not_in_stage_json_stays(study, hub, capsys):
    path, folder = study
    (folder / "baseline-s0/export/model/notes.txt").write_text("mine")
    run(path)
    assert "stays: baseline-s0 export: model/notes.txt: is not in its stage.json" in capsys.readouterr().out
    assert hub.calls[1][2]["allow_patterns"] == ["model.safetensors"]


def test_a_stage_whose_files_changed_is_refused_and_the_others_go(study, hub, capsys):
    path, folder = study
    (folder / "baseline-s0/sft_tinygsm/model/model.safetensors").write_text("other weights")
    run(path)
    assert "stays: baseline-s0 sft_tinygsm: " in (said := capsys.readouterr().out)
    assert "damaged since it was written; rerun its stage with --overwrite" in said
    assert [name for call, name, _ in hub.calls if call == "upload"] == [
        NAMES[0],
        NAMES[2],
        "lab/study-report",
    ]


def test_shards_may_be_gone(study, hub):
    path, folder = study
    shutil.rmtree(folder.parent / "data")
    run(path)
    assert len(hub.calls) == 8


def test_without_a_token_nothing_is_made(study, hub, monkeypatch):
    monkeypatch.setattr(publish, "get_token", lambda: None)
    with pytest.raises(UserError, match="no Hugging Face token; run: hf auth login"):
        run(study[0])
    assert hub.calls == []


@pytest.mark.parametrize("removed, said", [
    ("report", r"no report; run: bash scripts/compare.sh {path}"),
    ("baseline-s0/eval_grpo", r"no finished model to publish; 2 of 2 arms, unfinished: baseline-s0"),
])  # fmt: skip
def test_without_a_report_or_a_finished_model_nothing_is_made(study, hub, removed, said):
    path, folder = study
    shutil.rmtree(folder / removed)
    with pytest.raises(UserError, match=said.format(path=path)):
        run(path)
    assert hub.calls == []


def test_a_name_that_the_hub_would_not_take_is_refused_before_anything_goes(study, hub):
    with pytest.raises(UserError, match="lab/x/study-baseline-s0-export: the Hub takes no such name"):
        publish.main([str(study[0]), "lab/x"])
    assert hub.calls == []


def test_an_error_of_the_hub_is_one_line_that_names_the_repository(study, hub, monkeypatch):
    def refuse(self, repo_id, **words):
        raise OSError("403 Forbidden\nRequest ID: 1")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(UserError) as error:
        run(study[0])
    assert str(error.value) == f"{NAMES[0]}: 403 Forbidden; mend it and run this again"


def test_the_installed_library_takes_these_calls():
    create, upload = (inspect.signature(call).parameters for call in (HfApi.create_repo, HfApi.upload_folder))
    assert {"repo_id", "repo_type", "private", "exist_ok"} <= create.keys()
    assert {"repo_id", "repo_type", "folder_path", "allow_patterns", "commit_message"} <= upload.keys()


def test_stage_json_itself_never_goes(study, hub):
    """It holds host names and paths."""
    run(study[0])
    for _, _, words in hub.calls[1::2]:
        assert read_json(words["folder_path"] / "stage.json") is None
