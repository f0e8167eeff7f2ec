import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline import sample, stage
from pipeline.errors import UserError
from pipeline.experiment import load
from pipeline.files import ROOT, forget_lines, sha256
from pipeline.identity import asked, section, stage_dir
from pipeline.status import state, todo
from tokenizer import build

QUICKSTART = str(ROOT / "experiments/quickstart.yaml")
ARM = [QUICKSTART, "mul_tokens", "0"]


def finish(kind, *words, content="made", argv=ARM, **record):
    """Run a stage whose work is to write one file; True if it ran, False if it was skipped."""
    with stage.begin(kind, [*argv, *words], "") as run:
        if run is None:
            return False
        (run.dir / "out.json").write_text(json.dumps(content))
        run.finish(["out.json"], **record)
        return True


def directory(name, condition="mul_tokens"):
    return stage_dir(load(QUICKSTART), condition, 0, name)


def test_done_means_stage_json_with_identity_and_record(runs):
    finish("prepare", tokens=7)
    done = json.loads((directory("prepare") / "stage.json").read_text())
    assert set(done) == {"identity", "record"}
    identity, record = done["identity"], done["record"]
    assert identity["section"]["tokens"] == 1_200_000 and identity["condition"] == "mul_tokens"
    assert identity["data"] == {"sample:train": f"sample-{sample.VERSION}"}
    assert identity["outputs"] == {"out.json": sha256(directory("prepare") / "out.json")}
    assert record["tokens"] == 7 and record["seconds"] >= 0 and record["versions"]["numpy"]
    assert "seed" not in identity and directory("prepare").parent == runs / "data"


def test_a_key_with_its_default_is_no_part_of_an_identity(runs):
    spec = load(QUICKSTART).stages["pretrain"]
    keys, whole = asked(spec), section(spec)
    assert keys.items() < whole.items() and {"n_layer", "steps", "lr"} <= keys.keys()
    assert not {"examples", "fact_rows", "betas", "report_to"} & keys.keys()
    changed = load(QUICKSTART, ["stages.pretrain.fact_rows=mean"], "changed").stages["pretrain"]
    assert asked(changed) == keys | {"fact_rows": "mean"}
    assert asked(load(QUICKSTART).stages["grpo"]).keys() >= {"rewards", "beta", "loss"}


def test_a_finished_stage_is_skipped_and_a_changed_one_refused_by_key(runs):
    assert finish("tokenizer") is True
    before = (directory("tokenizer") / "stage.json").read_bytes()
    assert finish("tokenizer") is False
    path = directory("tokenizer") / "stage.json"
    done = json.loads(before)
    done["identity"]["tokenizer"] = "another"
    path.write_text(json.dumps(done))
    with pytest.raises(UserError, match=r'made otherwise \(tokenizer: "another" → .*--overwrite'):
        finish("tokenizer")
    assert json.loads(path.read_text()) == done


def test_a_record_invalidates_nothing(runs):
    finish("tokenizer", tokens=1)
    path = directory("tokenizer") / "stage.json"
    done = json.loads(path.read_text())
    path.write_text(json.dumps(done | {"record": {"commit": "another", "path": "", "seconds": 1}}))
    assert finish("tokenizer") is False


def test_overwrite_keeps_the_old_result_and_names_stale_children(runs, capsys):
    finish("prepare")
    finish("pretrain")
    capsys.readouterr()
    assert finish("prepare", "--overwrite", content="new") is True
    said = capsys.readouterr().err
    assert "stale now" in said and str(directory("pretrain")) in said
    (old,) = directory("prepare").parent.glob("*.old-*")
    assert json.loads((old / "out.json").read_text()) == "made"
    assert json.loads((directory("prepare") / "out.json").read_text()) == "new"
    with pytest.raises(UserError, match="made otherwise .parent: "):
        finish("pretrain")


def test_a_stage_needs_its_parent_finished_undamaged_and_of_its_own_arm(runs):
    with pytest.raises(
        UserError, match=r"'prepare' is not finished .* run: bash scripts/prepare.sh .* mul_tokens 0"
    ):
        finish("pretrain")
    finish("prepare")
    (directory("prepare") / "out.json").write_text("flipped")
    with pytest.raises(UserError, match="out.json: damaged since it was written"):
        finish("pretrain")
    (directory("prepare") / "out.json").unlink()
    with pytest.raises(UserError, match="out.json: damaged since it was written"):
        finish("pretrain")
    finish("prepare", "--overwrite")
    finish("pretrain")
    other = directory("pretrain", "baseline")
    other.parent.mkdir(parents=True)
    directory("pretrain").rename(other)
    with pytest.raises(UserError, match="holds 'pretrain' of mul_tokens seed 0, not of baseline seed 0"):
        finish("export", argv=[QUICKSTART, "baseline", "0"])


def test_a_stage_of_another_experiment_may_be_the_parent(runs, tmp_path):
    for kind in ("prepare", "pretrain", "export"):
        finish(kind)
    child = tmp_path / "child.yaml"
    child.write_text(f"extends: {QUICKSTART}\nstages:\n  sft_tulu: {{from: quickstart/export}}\n")
    assert finish("sft", "sft_tulu", argv=[str(child), "mul_tokens", "0"]) is True
    with pytest.raises(UserError, match="'quickstart/export' is not finished"):
        finish("sft", "sft_tulu", argv=[str(child), "baseline", "0"])


def test_what_a_failed_run_left_is_told_and_cleared(runs):
    with pytest.raises(RuntimeError), stage.begin("tokenizer", ARM, "") as run:
        (run.dir / "half").write_text("written")
        raise RuntimeError("no luck")
    assert state(load(QUICKSTART), "mul_tokens", 0, "tokenizer") == ("failed", "RuntimeError: no luck")
    assert finish("tokenizer") is True
    assert (
        not (directory("tokenizer") / "half").exists()
        and not (directory("tokenizer") / "failed.json").exists()
    )
    assert state(load(QUICKSTART), "mul_tokens", 0, "tokenizer")[0] == "done"


def test_a_resumable_stage_keeps_what_it_has_but_not_under_another_identity(runs):
    finish("prepare")
    for _ in range(2):
        with stage.begin("pretrain", ARM, "", resumable=True) as run:
            (run.dir / "checkpoint").touch()
    assert (directory("pretrain") / "checkpoint").exists()
    with pytest.raises(RuntimeError), stage.begin("pretrain", ARM, "", resumable=True):
        raise RuntimeError("no luck")
    with stage.begin("pretrain", ARM, "", resumable=True):
        pass  # stopped, as by SIGTERM
    assert state(load(QUICKSTART), "mul_tokens", 0, "pretrain")[0] == "stopped"
    finish("prepare", "--overwrite", content="other documents")
    with pytest.raises(UserError, match="made otherwise"), stage.begin("pretrain", ARM, "", resumable=True):
        pass
    assert (directory("pretrain") / "checkpoint").exists()


SLEEPER = "import sys, time\nfrom pipeline import stage\nwith stage.begin('tokenizer', sys.argv[1:], '') as run:\n    print('in', flush=True); time.sleep(60)"


def test_a_stage_at_work_is_locked_and_a_killed_one_is_not(runs):
    words = [sys.executable, "-c", SLEEPER, *ARM]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"RUNS": str(runs)})
    try:
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(UserError, match=rf"is being written by \S+ pid {process.pid}"):
            finish("tokenizer")
        assert state(load(QUICKSTART), "mul_tokens", 0, "tokenizer")[0] == "running"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert state(load(QUICKSTART), "mul_tokens", 0, "tokenizer")[0] == "stopped"
    assert finish("tokenizer") is True


def test_the_shared_prepare_waits_for_its_lock(runs):
    code = SLEEPER.replace("tokenizer", "prepare").replace("time.sleep(60)", "time.sleep(1); run.finish([])")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *ARM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"RUNS": str(runs)},
    )
    assert process.stdout.readline() == b"in\n"
    started = time.time()
    assert finish("prepare") is False and time.time() - started > 0.5
    process.wait()


def test_todo_lists_what_is_left_in_order(runs):
    finish("tokenizer")
    finish("prepare")
    left = todo(load(QUICKSTART), "mul_tokens", 0)
    first = [("pretrain", "pretrain"), ("export", "export"), ("eval", "export"), ("sft", "sft_tulu")]
    assert left[:4] == first and len(left) == 13


def test_unknown_arms_and_stages_are_named(runs):
    with pytest.raises(UserError, match="no condition 'mul'; there are baseline, mul_tokens"):
        finish("tokenizer", argv=[QUICKSTART, "mul", "0"])
    with pytest.raises(UserError, match="has no seed 7; its seeds are 0"):
        finish("tokenizer", argv=[QUICKSTART, "baseline", "7"])
    with pytest.raises(UserError, match="several sft stages, so name one; there are: sft_tulu, sft_gsm8k"):
        finish("sft")
    with pytest.raises(UserError, match="no sft stage 'grpo'"):
        finish("sft", "grpo")


def test_progress_is_on_disk_for_status(runs, capsys):
    with stage.begin("tokenizer", ARM, "") as run:
        with run.bar(200, "rows") as bar:
            bar.update(150)
        assert state(load(QUICKSTART), "mul_tokens", 0, "tokenizer")[1].startswith("150/200 rows")
        run.log(step=1, loss=0.5)
        with pytest.raises(ValueError):
            run.log(loss=float("nan"))
        assert json.loads((run.dir / "metrics.jsonl").read_text())["loss"] == 0.5


def test_the_tokenizer_stage_builds_what_transformers_loads(runs):
    from transformers import AutoTokenizer

    build.main(ARM)
    assert len(AutoTokenizer.from_pretrained(directory("tokenizer"))) == 1117
    build.main(ARM)


def test_what_was_logged_after_the_last_checkpoint_is_forgotten(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 4}\n{"step": 5}\n{"step": 6, "lo')
    forget_lines(metrics, 4)
    assert metrics.read_text() == '{"step": 1}\n{"step": 4}\n'
    forget_lines(tmp_path / "none.jsonl", 4)


# --- operational keys, provenance, locks --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["micro_batch=3", "compile=true", "report_to=tensorboard", "keep=9", "save_every=7"]
)
def test_a_stopped_run_goes_on_with_another_operational_key(runs, tmp_path, capsys, change):
    """The experiment file itself is edited, as one does after an out-of-memory error."""
    key, _, value = change.partition("=")
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: {QUICKSTART}\n")
    argv = [str(path), "mul_tokens", "0"]
    finish("prepare", argv=argv)
    with stage.begin("pretrain", argv, "", resumable=True) as run:
        (run.dir / "checkpoint").touch()
    path.write_text(f"extends: {QUICKSTART}\nstages: {{pretrain: {{{key}: {value}}}}}\n")
    capsys.readouterr()
    with stage.begin("pretrain", argv, "", resumable=True) as run:
        assert (run.dir / "checkpoint").exists()
        (run.dir / "out.json").touch()
        run.finish(["out.json"])
    said = capsys.readouterr().err
    assert f"{key}: " in said and "since it was started; bits may differ from an undisturbed run" in said
    record = json.loads((run.dir / "stage.json").read_text())["record"]
    assert record["operational"][key] != record["earlier"][0]["operational"][key]
    path.write_text(f"extends: {QUICKSTART}\n")
    assert finish("pretrain", argv=argv) is False  # and what is done stays done


def test_a_stopped_run_is_not_gone_on_with_another_decisive_key(runs, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: {QUICKSTART}\n")
    argv = [str(path), "mul_tokens", "0"]
    finish("prepare", argv=argv)
    with stage.begin("pretrain", argv, "", resumable=True):
        pass
    path.write_text(f"extends: {QUICKSTART}\nstages: {{pretrain: {{lr: 1e-3}}}}\n")
    with pytest.raises(UserError, match=r"made otherwise \(section.lr: 0.01 → 0.001\)"):
        finish("pretrain", argv=argv)


def test_the_commit_and_the_source_are_those_of_the_start(runs, monkeypatch):
    """A commit made, or a file edited, in the middle of a run claims nothing."""
    from pipeline import provenance

    with stage.begin("tokenizer", ARM, "") as run:
        started = dict(run.record)
        monkeypatch.setattr(provenance, "_git", lambda *words: "made since")
        monkeypatch.setattr(provenance, "source_hash", lambda: "edited since")
        assert f"commit: {started['commit']}" in run.card()
        (run.dir / "out.json").touch()
        run.finish(["out.json"])
    record = json.loads((directory("tokenizer") / "stage.json").read_text())["record"]
    assert all(record[key] == started[key] for key in ("commit", "uncommitted", "source", "versions"))
    assert record["commit"] != "made since" and record["seconds"] >= 0 and record["device"]


def test_the_source_hash_sees_every_folder_and_no_test(monkeypatch, tmp_path):
    from pipeline import provenance

    seen = []
    monkeypatch.setattr(
        provenance, "sha256", lambda path: seen.append(path.relative_to(ROOT).as_posix()) or "x"
    )
    provenance.source_hash()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    code = {path for path in tracked if path.endswith((".py", ".sh", ".sbatch")) and (ROOT / path).exists()}
    assert set(seen) >= {path for path in code if not path.startswith(("tests/", "."))}
    assert not any(path.startswith(("tests/", "runs/", ".")) for path in seen)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_a_held_lock(runs, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(
        UserError, match=r"its file system gives no locks \(.*set RUNS to a disk that has them"
    ):
        finish("tokenizer")


def test_a_look_at_the_status_locks_nobody_out(runs, monkeypatch):
    """`status` holds the lock for a moment; a stage that begins in it has to wait, and not to fail."""
    answers = iter([BlockingIOError(errno.EWOULDBLOCK, "held"), None])

    def flock(file, operation):
        if error := next(answers, None):
            raise error

    monkeypatch.setattr("fcntl.flock", flock)
    assert finish("tokenizer") is True


# --- what was removed after use -----------------------------------------------------------------------------


def small(tmp_path):
    path = tmp_path / "quickstart.yaml"
    path.write_text(
        f"extends: {QUICKSTART}\nstages: {{tokenizer: null, sft_tulu: null, sft_gsm8k: null, sft_tinygsm: null, "
        "sft_curriculum: null, grpo: null}\ncompare: null\n"
    )
    return str(path)


def test_what_is_finished_stays_finished_when_its_shards_are_removed(runs, tmp_path):
    """Prepared data are gigabytes, and are removed after use: arm.sh must not prepare them again."""
    argv = [small(tmp_path), "mul_tokens", "0"]
    for kind in ("prepare", "pretrain", "export"):
        finish(kind, argv=argv)
    prepared = directory("prepare")
    moved = prepared.rename(tmp_path / "away")
    experiment = load(argv[0])
    assert state(experiment, "mul_tokens", 0, "pretrain")[0] == "done"
    assert state(experiment, "mul_tokens", 0, "prepare")[0] == "waiting"  # the evaluation measures on it
    assert todo(experiment, "mul_tokens", 0) == [("prepare", "prepare"), ("eval", "export")]
    moved.rename(prepared)
    finish("eval", argv=argv)
    prepared.rename(moved)
    assert state(experiment, "mul_tokens", 0, "prepare") == ("done", "removed since")
    assert todo(experiment, "mul_tokens", 0) == []
    assert finish("pretrain", argv=argv) is False


def test_a_parent_that_is_made_anew_makes_its_children_wait(runs, tmp_path):
    argv = [small(tmp_path), "mul_tokens", "0"]
    for kind in ("prepare", "pretrain", "export"):
        finish(kind, argv=argv)
    with pytest.raises(RuntimeError), stage.begin("pretrain", [*argv, "--overwrite"], ""):
        raise RuntimeError("no luck")
    assert state(load(argv[0]), "mul_tokens", 0, "export") == ("waiting", "for its parent")


def test_a_second_rank_skips_what_is_done_though_its_parent_was_removed(runs, tmp_path, monkeypatch):
    """Only rank 0 looks; the others take its word, and must not fail where it waits for them."""
    argv = [small(tmp_path), "mul_tokens", "0"]
    for kind in ("prepare", "pretrain"):
        finish(kind, argv=argv)
    directory("prepare").rename(tmp_path / "away")
    monkeypatch.setattr(stage, "RANK", 1)
    with stage.begin("pretrain", argv, "", agree=lambda done: True) as run:
        assert run is None
