"""What would go to the Hub, what stays, and the calls that send it; nothing here reaches a network."""

import inspect
import re
import shutil

import pytest
from huggingface_hub import DatasetCard, HfApi, ModelCard

from eval.report import cards, publish
from eval.verdict.collect import collect
from model import GPT, GPTConfig
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pretrain.export_hf import export
from tests.eval import synthetic
from tokenizer import encode


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
    write_json(figures.parent / "report.json", {"sentence": "underpowered: too few seeds"})
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

    def upload_file(self, repo_id, **words):
        self.calls.append(("card", repo_id, words))


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
    assert f"model {NAMES[0]}: 2 files, " in said and "\n    model.safetensors  0.0 kB\n" in said
    assert f"model {NAMES[1]}: " in said and f"model {NAMES[2]}: " in said
    assert "dataset lab/study-report: 4 files, " in said and "\n    figures/accuracy.csv  0.0 kB\n" in said
    assert "goes: 4 repositories, 10 files, " in said
    assert "stays: 1 of 2 arms, unfinished: mul_tokens-s0 (eval_sft_tinygsm waiting)" in said
    assert everything(folder) == before


def test_sizes_are_those_of_the_files(study):
    path, folder = study
    (folder / "report/big.pdf").write_bytes(bytes(2_340_000))
    report = publish.report(publish.load(path), "lab")
    json_size, card_size = (folder / "report/report.json").stat().st_size, len(report.card)
    assert report.sizes() == {
        "big.pdf": 2_340_000, "figures/accuracy.csv": 10, "report.html": 6, "report.json": json_size,
        "README.md": card_size,
    }  # fmt: skip
    first, *others, last = publish.listing([report], []).splitlines()
    assert first == "dataset lab/study-report: 5 files, 2.3 MB" and "    big.pdf  2.3 MB" in others
    assert last == "goes: 1 repositories, 5 files, 2.3 MB"


@pytest.mark.parametrize("words, private", [((), True), (("--public",), False)])
def test_every_model_and_the_report_are_pushed_private_unless_said_otherwise(study, hub, words, private):
    path, folder = study
    run(path, *words)
    assert [(call, name) for call, name, _ in hub.calls] == [
        (call, name) for name in (*NAMES, "lab/study-report") for call in ("create", "upload", "card")
    ]
    kinds = ["model"] * 9 + ["dataset"] * 3
    assert [words["repo_type"] for _, _, words in hub.calls] == kinds
    for _, _, created in hub.calls[::3]:
        assert created["private"] is private and created["exist_ok"] is True
    first, last = hub.calls[1][2], hub.calls[-2][2]
    assert first["folder_path"] == folder / "baseline-s0/export/model"
    assert first["allow_patterns"] == ["model.safetensors"]
    assert last["folder_path"] == folder / "report"
    assert last["allow_patterns"] == ["figures/accuracy.csv", "report.html", "report.json"]


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
    assert len(hub.calls) == 12


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
    calls = (HfApi.create_repo, HfApi.upload_folder, HfApi.upload_file)
    create, upload, card = (inspect.signature(call).parameters for call in calls)
    assert {"repo_id", "repo_type", "path_or_fileobj", "path_in_repo", "commit_message"} <= card.keys()
    assert {"repo_id", "repo_type", "private", "exist_ok"} <= create.keys()
    assert {
        "repo_id",
        "repo_type",
        "folder_path",
        "allow_patterns",
        "ignore_patterns",
        "commit_message",
    } <= upload.keys()


def test_stage_json_itself_never_goes(study, hub):
    """It holds host names and paths."""
    run(study[0])
    for _, _, words in hub.calls[1::3]:
        assert read_json(words["folder_path"] / "stage.json") is None


# --- cards --------------------------------------------------------------------------------------------------


def test_a_models_card_says_what_it_is_and_what_it_scores(study):
    path, folder = study
    (folder / "baseline-s0/grpo/model/README.md").write_text(
        "---\nlicense: mit\n---\n\n# grpo\n\n- commit: abc\n"
    )
    collected = collect(publish.load(path))
    card = ModelCard(cards.model(collected, collected.arms[0], "grpo", "lab"))
    data = card.data
    assert (data.language, data.license, data.library_name) == ("en", "mit", "transformers")
    assert data.base_model == NAMES[1] and data.model_name == "study-baseline-s0-grpo"
    summary = read_json(folder / "baseline-s0/eval_grpo/summary.json")
    scores = {each.dataset_name: each for each in data.eval_results}
    assert set(scores) == {*summary["sets"], *(f"probes.{kind}" for kind in summary["probes"])}
    score, result = summary["sets"]["word_problems"], scores["word_problems"]
    assert result.metric_value == score["accuracy"]
    assert f"95% interval {100 * score['low']:.1f}% to {100 * score['high']:.1f}%" in result.metric_name
    assert "- commit: abc" in card.text and "User: What is 6 * 9?\nAssistant:" in card.text


def test_a_card_names_the_data_sets_of_the_hub_that_the_model_has_seen(study, monkeypatch):
    path, _ = study
    collected = collect(publish.load(path))
    stages = collected.experiment.stages
    monkeypatch.setattr(stages["prepare"], "data", "HuggingFaceFW/fineweb-edu")
    monkeypatch.setattr(stages["sft_tinygsm"], "data", "TinyGSM/TinyGSM")
    of = [
        ModelCard(cards.model(collected, collected.arms[0], name, "lab")).data for name in ("export", "grpo")
    ]
    assert of[0].datasets == ["HuggingFaceFW/fineweb-edu"] and of[0].base_model is None
    assert of[1].datasets == ["HuggingFaceFW/fineweb-edu", "TinyGSM/TinyGSM"]


def test_the_reports_card_leads_to_its_outcomes(study):
    report = publish.report(publish.load(study[0]), "lab")
    card = DatasetCard(report.card)
    assert card.data.to_dict()["configs"] == [{"config_name": "default", "data_files": "outcomes.parquet"}]
    assert "underpowered: too few seeds" in card.text and '"lab/study-report"' in card.text


def test_the_snippet_of_a_card_runs(study, tmp_path, monkeypatch):
    """As it stands there, from a model written as every model is."""
    path, _ = study
    collected = collect(publish.load(path))
    encoder = encode.for_run(collected.experiment, "baseline")
    config = GPTConfig(vocab_size=encoder.size, block_size=128, n_layer=1, n_head=2, n_embd=16)
    export(GPT(config), encoder, tmp_path / NAMES[2])
    card = cards.model(collected, collected.arms[0], "grpo", "lab")
    snippet = re.search("```python\n(.*?)```", card, re.DOTALL)[1]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
