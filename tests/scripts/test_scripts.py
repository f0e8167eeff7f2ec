"""The scripts that start many arms, without Slurm and without GPUs: with stand-ins for srun, scontrol, nvidia-smi,
torchrun and python that write down how they were called. `pipeline` itself is the real one. Slurm's scripts are run
by bash from a copy that lies elsewhere, as sbatch does it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from pipeline.files import ROOT
from pipeline.kinds import KINDS

SCRIPTS = sorted((ROOT / "scripts/slurm").glob("*.sbatch"))
FAKES = {
    "python": '[[ $2 != pipeline ]] || exec env PYTHONPATH={root} {python} "$@"\necho "python $*" >>{calls}',
    "torchrun": 'echo "torchrun $*" >>{calls}\necho "$SAYS" >&2\nexit "$CODE"',
    "srun": 'echo "srun $1 $2" >>{calls}\nshift 2\nexec "$@"',
    "scontrol": 'echo "scontrol $*" >>{calls}',
    "hostname": "echo node0",
}
UNCHECKED = (
    f"[[ $3 != check ]] || exit 0\n{FAKES['python']}"  # a new Python for every stage's check takes long
)
ARM = ["study.yaml", "mul_tokens", "0"]
STOPPED = "and saved; run it again to go on"
STUDY = f"""
extends: {ROOT}/experiments/quickstart.yaml
seeds: [0, 1]
stages: {{sft_tulu: null, sft_gsm8k: null, sft_tinygsm: null, sft_curriculum: null, grpo: null}}
eval: null
compare: null
plan: {{devices: 2}}
"""


class Cluster:
    """A repository with nothing but scripts and the stand-ins, and a spool that holds copies of submitted scripts."""

    def __init__(self, folder: Path):
        self.root, self.calls = folder / "repository", folder / "calls"
        self.bin = self.root / ".venv/bin"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        self.bin.mkdir(parents=True)
        (self.root / ".venv/installed").touch()
        (self.bin / "activate").write_text(f"PATH={self.bin}:$PATH\n")
        (self.root / "scripts/setup.sh").write_text("")
        (self.root / "study.yaml").write_text(STUDY)
        for name, body in FAKES.items():
            self.fake(name, body)

    def fake(self, name, body):
        path = self.bin / name
        path.write_text(
            "#!/usr/bin/env bash\n" + body.format(root=ROOT, python=sys.executable, calls=self.calls)
        )
        path.chmod(0o755)

    def start(self, script, *words, **variables):
        copy = self.root.parent / "spool/slurm_script"
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts/slurm" / script, copy)
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith("SLURM_") and key != "NPROC"
        }
        own = {
            "SLURM_SUBMIT_DIR": str(self.root),
            "RUNS": str(self.root.parent / "runs"),
            "SAYS": "",
            "CODE": "0",
        }
        environment = kept | own | {key: str(value) for key, value in variables.items()}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", str(copy), *words], cwd=copy.parent, env=environment, **pipes)

    def open(self, *words, **variables):
        """Start a script of the repository, in a session of its own."""
        own = {"RUNS": str(self.root.parent / "runs")} | variables
        kept = {
            key: value for key, value in os.environ.items() if key not in ("NPROC", "CUDA_VISIBLE_DEVICES")
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

        def hear():  # SIGINT, which a shell that starts the tests in the background makes all below it ignore
            signal.signal(signal.SIGINT, signal.default_int_handler)

        where = {"cwd": self.root, "env": kept | own, "start_new_session": True, "preexec_fn": hear}
        return subprocess.Popen(["bash", *words], **where, **pipes)

    def run(self, script, *words, **variables):
        """(exit code, stdout and stderr) of a job."""
        job = self.start(script, *words, **variables)
        said = "".join(job.communicate(timeout=120))
        return job.returncode, said

    def called(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it_and_slurm_finds_its_options(path):
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH ")]
    commands = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    assert options and max(options) < min(commands)  # sbatch reads none behind the first command


def test_there_are_three():
    assert [path.name for path in SCRIPTS] == ["arms.sbatch", "prepare.sbatch", "pretrain.sbatch"]


# --- study and quickstart -----------------------------------------------------------------------------------


def test_a_study_gives_every_arm_the_gpus_of_its_plan(cluster):
    cluster.fake("nvidia-smi", "printf 'GPU %d\\n' 0 1 2 3")
    cluster.fake("torchrun", 'echo "$CUDA_VISIBLE_DEVICES $*" >>{calls}\nsleep 2')
    cluster.fake("python", UNCHECKED + FAKES["python"])
    said = "".join(cluster.open("scripts/study.sh", "study.yaml").communicate(timeout=120))
    trained = [line.split(" ", 1) for line in cluster.called() if "pretrain.train" in line]
    command = "--standalone --nproc_per_node=2 -m pretrain.train study.yaml"
    arms = [
        f"{command} {condition} {seed} pretrain"
        for seed in (0, 1)
        for condition in ("baseline", "mul_tokens")
    ]
    assert sorted(words for _, words in trained) == sorted(arms), said
    assert {gpus for gpus, _ in trained} == {"0,1", "2,3"}
    assert cluster.called()[-1] == "python -m eval.verdict.compare study.yaml"


def test_a_study_on_too_few_gpus_is_one_line(cluster):
    cluster.fake("nvidia-smi", "echo GPU 0")
    study = cluster.open("scripts/study.sh", "study.yaml")
    said = study.communicate(timeout=60)[1].splitlines()
    assert study.returncode == 2 and cluster.called() == []
    assert said[-1].startswith("error: study.yaml: plan.devices: an arm wants 2 GPUs and 1 are here")


def test_an_arm_passes_its_options_on_behind_the_stage(cluster):
    words = ["--set", "stages.pretrain.lr=1e-3", "--name", "other"]
    for processes in ("1", "2"):
        arm = cluster.open("scripts/arm.sh", *ARM, *words, NPROC=processes, CODE="0")
        output = "".join(arm.communicate(timeout=60))
        assert arm.returncode == 0, output
    called, options = cluster.called(), f"{' '.join(ARM)} {' '.join(words)}"
    assert called[0] == f"python -m pipeline.arm {options}"
    assert called[1] == "python -m tokenizer.build " + options.replace(" --set", " tokenizer --set")


@pytest.mark.parametrize("kind, stage", [("sft", "sft_tulu"), ("grpo", "grpo")])
def test_what_trains_is_started_by_torchrun_where_there_are_several_processes(cluster, kind, stage):
    words = [f"{ROOT}/experiments/quickstart.yaml", "mul_tokens", "0", stage]
    done = cluster.open(f"scripts/{kind}.sh", *words, NPROC="2", CODE="0", SAYS="")
    output = "".join(done.communicate(timeout=60))
    command = f"torchrun --standalone --nproc_per_node=2 -m {KINDS[kind].module} {' '.join(words)}"
    assert cluster.called() == [command], output


def test_a_study_shares_out_the_gpus_that_are_preset(cluster):
    cluster.fake("nvidia-smi", "printf 'GPU %d\\n' 0 1 2 3 4 5 6 7")
    cluster.fake("torchrun", 'echo "$CUDA_VISIBLE_DEVICES $*" >>{calls}\nsleep 1')
    cluster.fake("python", UNCHECKED + FAKES["python"])
    study = cluster.open("scripts/study.sh", "study.yaml", CUDA_VISIBLE_DEVICES="5,3,GPU-ab,6")
    output = "".join(study.communicate(timeout=120))
    trained = [line.split(" ", 1)[0] for line in cluster.called() if "pretrain.train" in line]
    assert len(trained) == 4 and set(trained) == {"5,3", "GPU-ab,6"}, output


def test_a_study_passes_its_changes_on_to_every_arm_and_the_verdict(cluster):
    changes = ["--set", "stages.pretrain.lr=1e-3", "--set", "plan.devices=1", "--name", "hot"]
    study = cluster.open("scripts/quickstart.sh", "study.yaml", *changes, CUDA_VISIBLE_DEVICES="")
    output = "".join(study.communicate(timeout=120))
    saved = cluster.root.parent / "runs/hot/hot.yaml"
    arms = [line for line in cluster.called() if "pipeline.arm" in line]
    assert len(arms) == 4 and all(f"pipeline.arm {saved} " in line for line in arms), output
    assert cluster.called()[-1] == f"python -m eval.verdict.compare {saved}"
    assert "lr: 0.001" in saved.read_text()


CHOOSE = """
import pathlib, sys
from pipeline import files, sweep, yaml_file
content, name = yaml_file.resolve(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[1]).stem
chosen = {"chosen": {"baseline": 1e-3, "mul_tokens": 2e-3}, "fingerprint": sweep.fingerprint(content, name)}
files.write_json(sweep.path(name), chosen)
"""


def test_a_study_with_a_sweep_runs_its_arms_chooses_and_then_runs_those_that_are_judged(cluster):
    (cluster.root / "choose.py").write_text(CHOOSE)
    choose = f'exec env PYTHONPATH={{root}} {{python}} {cluster.root}/choose.py "$3"'
    cluster.fake("python", f"{FAKES['python']}\n[[ $2 != eval.verdict.sweep ]] || {choose}")
    keys = "{stage: pretrain, lr: [1e-3, 2e-3], seeds: [7], after: export, metric: word_problems}"
    text = f"extends: {ROOT}/experiments/quickstart.yaml\nsweep: {keys}\n"
    (cluster.root / "swept.yaml").write_text(text)
    study = cluster.open("scripts/study.sh", "swept.yaml", CUDA_VISIBLE_DEVICES="")
    output = "".join(study.communicate(timeout=120))
    runs = cluster.root.parent / "runs"
    names = [f"swept-pretrain-lr-{lr}" for lr in ("0.001", "0.002")]
    tried = [
        f"python -m pipeline.arm {runs}/{n}/{n}.yaml {c} 7" for n in names for c in ("baseline", "mul_tokens")
    ]
    judged = [f"python -m pipeline.arm swept.yaml {c} 0" for c in ("baseline", "mul_tokens")]
    called = cluster.called()
    assert sorted(called[:4]) == sorted(tried) and called[4] == "python -m eval.verdict.sweep swept.yaml", (
        output
    )
    assert sorted(called[5:7]) == judged and called[7:] == ["python -m eval.verdict.compare swept.yaml"], (
        output
    )
    assert (runs / names[0] / "logs/baseline-s7.log").exists()


def test_a_study_runs_no_more_arms_at_once_than_it_has_slots(cluster):
    body = '[[ $2 != pipeline ]] || exec env PYTHONPATH={root} {python} "$@"\n'
    cluster.fake("python", UNCHECKED + body + "echo begin >>{calls}\nsleep 0.5\necho end >>{calls}")
    cluster.fake("torchrun", "exit 0")
    study = cluster.open("scripts/study.sh", "study.yaml", SLOTS="2", CUDA_VISIBLE_DEVICES="")
    output = "".join(study.communicate(timeout=120))
    running = [0]
    for line in cluster.called()[:-2]:  # without the comparison's
        running.append(running[-1] + (1 if line == "begin" else -1))
    assert max(running) == 2 and running[-1] == 0, output


@pytest.mark.parametrize("script", ["quickstart.sh", "study.sh"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_arm(cluster, script, number):
    """The arms have a session of their own, so that only the script can end them."""
    body = '[[ $2 != pipeline ]] || exec env PYTHONPATH={root} {python} "$@"\n'
    cluster.fake("python", UNCHECKED + body + "echo $$ >>{calls}\nsleep 300")
    study = cluster.open(f"scripts/{script}", "study.yaml", SLOTS="4", CUDA_VISIBLE_DEVICES="")
    while len(cluster.called()) < 4:  # the first stage of each arm
        assert study.poll() is None, study.communicate()
        time.sleep(0.05)
    os.kill(study.pid, number)
    study.communicate(timeout=60)
    assert study.returncode == 143
    deadline = time.time() + 10
    alive = [int(pid) for pid in cluster.called()]
    while alive and time.time() < deadline:
        alive = [pid for pid in alive if Path(f"/proc/{pid}").exists()]
        time.sleep(0.05)
    assert not alive


def test_an_arm_that_saves_at_a_signal_is_heard_and_waited_for(cluster):
    """Its last line reaches the log, and the study does not end before it."""
    saving = (
        "trap 'sleep 1; echo saved at last >&2; exit 0' TERM\necho $$ >>{calls}\nwhile :; do sleep 0.05; done"
    )
    cluster.fake("python", '[[ $2 != pipeline ]] || exec env PYTHONPATH={root} {python} "$@"\n' + saving)
    study = cluster.open("scripts/study.sh", "study.yaml", SLOTS="4", CUDA_VISIBLE_DEVICES="")
    while len(cluster.called()) < 4:
        assert study.poll() is None, study.communicate()
        time.sleep(0.05)
    os.kill(study.pid, signal.SIGTERM)
    study.communicate(timeout=60)
    logs = [path.read_text() for path in (cluster.root.parent / "runs/study/logs").glob("*.log")]
    assert len(logs) == 4 and all("saved at last" in log for log in logs)


def test_more_slots_than_gpus_is_one_line(cluster):
    cluster.fake("nvidia-smi", "printf 'GPU %d\\n' 0 1")
    study = cluster.open("scripts/study.sh", "study.yaml", SLOTS="2")
    message = study.communicate(timeout=60)[1].splitlines()[-1]
    assert study.returncode == 2 and message.startswith("error: SLOTS=2: so many arms at once want 4 GPUs")


def test_torchrun_leaves_time_to_save(cluster):
    """In every script, since all of them source common.sh; torch reads the variable where no option is given."""
    from torch.distributed.launcher.api import LaunchConfig

    command = f"source {cluster.root}/scripts/common.sh; echo $TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    seconds = subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout.strip()
    assert int(seconds) >= 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", seconds)
        assert LaunchConfig(1, 1, 1).shutdown_timeout == int(seconds)


def test_setup_says_when_torch_does_not_see_the_gpu_that_is_there(cluster):
    shutil.copy(ROOT / "scripts/setup.sh", cluster.root / "scripts/setup.sh")
    shutil.copy(ROOT / "requirements.txt", cluster.root)
    cluster.fake("nvidia-smi", "echo GPU 0: stand-in")
    cluster.fake("python", 'case "$*" in *is_available*) exit 1;; esac')
    path = f"{cluster.bin}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", cluster.root / "scripts/setup.sh"],
        env=os.environ | {"PATH": path, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "driver is too old" in done.stderr and "--index-url" in done.stderr


# --- arms ---------------------------------------------------------------------------------------------------


def test_an_array_task_runs_its_line_of_the_plan_on_the_devices_of_the_plan(cluster):
    code, said = cluster.run("arms.sbatch", "study.yaml", SLURM_ARRAY_TASK_ID=2)
    assert code == 0, said
    assert cluster.called() == [
        "python -m tokenizer.build study.yaml mul_tokens 0 tokenizer",
        "python -m pretrain.prepare study.yaml mul_tokens 0 prepare",
        "torchrun --standalone --nproc_per_node=2 -m pretrain.train study.yaml mul_tokens 0 pretrain",
        "python -m pretrain.export_hf study.yaml mul_tokens 0 export",
    ]


@pytest.mark.parametrize("number", [0, 5])
def test_an_array_task_beyond_the_plan_is_one_line(cluster, number):
    code, said = cluster.run("arms.sbatch", "study.yaml", SLURM_ARRAY_TASK_ID=number)
    assert code == 2 and cluster.called() == []
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: study.yaml: its plan has no arm {number}; submit with --array=1-4"]


def test_a_wrong_file_is_the_plans_own_error(cluster):
    code, said = cluster.run("arms.sbatch", "other.yaml", SLURM_ARRAY_TASK_ID=1)
    assert code == 2 and said.startswith("error: other.yaml: no such experiment file")


def test_a_job_of_another_folder_ends_at_once(cluster):
    code, said = cluster.run("arms.sbatch", "study.yaml", SLURM_SUBMIT_DIR="/", SLURM_ARRAY_TASK_ID=1)
    assert code != 0 and "/scripts/common.sh" in said and cluster.called() == []


# --- prepare ------------------------------------------------------------------------------------------------


def test_an_array_task_prepares_its_part_and_the_job_behind_it_the_stage(cluster):
    assert cluster.run("prepare.sbatch", *ARM, SLURM_ARRAY_TASK_ID=3, SLURM_ARRAY_TASK_COUNT=16)[0] == 0
    assert cluster.run("prepare.sbatch", *ARM, NPROC=8)[0] == 0
    command = "python -m pretrain.prepare study.yaml mul_tokens 0"
    assert cluster.called() == [f"{command} --part 3/16", command]


# --- pretrain -----------------------------------------------------------------------------------------------

JOB = {"SLURM_JOB_ID": 71, "SLURM_NNODES": 2, "SLURM_GPUS_ON_NODE": 8, "SLURM_CPUS_PER_TASK": 16}
TRAINED = [
    "srun --kill-on-bad-exit=0 --cpus-per-task=16",
    "torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 --rdzv_id=71"
    " -m pretrain.train study.yaml mul_tokens 0",
]


def test_every_node_runs_torchrun_and_all_meet_on_the_first(cluster):
    assert cluster.run("pretrain.sbatch", *ARM, **JOB) == (0, "\n")
    assert cluster.called() == TRAINED


def test_a_run_that_was_stopped_goes_back_into_the_queue(cluster):
    says = f"stopped at step 7,312 {STOPPED}"
    code, said = cluster.run("pretrain.sbatch", *ARM, **JOB, SAYS=says, CODE=1)
    assert code == 0 and says in said
    assert cluster.called() == [*TRAINED, "scontrol requeue 71"]


def test_a_run_that_failed_does_not(cluster):
    code, said = cluster.run("pretrain.sbatch", *ARM, **JOB, SAYS="error: out of memory", CODE=1)
    assert (code, said) == (1, "error: out of memory\n")
    assert cluster.called() == TRAINED


def test_the_words_that_tell_are_the_trainers(cluster):
    assert STOPPED in (ROOT / "pretrain/train.py").read_text()
    assert f'"{STOPPED}"' in (ROOT / "scripts/slurm/pretrain.sbatch").read_text()


@pytest.mark.parametrize("words", [ARM[:2], [*ARM, "--overwrite"]])
def test_other_words_are_refused(cluster, words):
    code, said = cluster.run("pretrain.sbatch", *words, **JOB)
    assert code == 2 and said == "error: pretrain.sbatch takes EXPERIMENT CONDITION SEED and nothing else\n"
    assert cluster.called() == []


def test_slurm_is_asked_for_the_signal_and_the_queue():
    options = re.findall(r"^#SBATCH (\S+)", (ROOT / "scripts/slurm/pretrain.sbatch").read_text(), re.M)
    assert {"--signal=TERM@120", "--requeue", "--ntasks-per-node=1", "--open-mode=append"} <= set(options)


TRAINER = f"""
import os, signal, sys, time
from pathlib import Path

asked, here = [], Path(os.environ["RUNS"])
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
(here / f"ready{{os.environ['RANK']}}").touch()
while not asked:
    time.sleep(0.05)
time.sleep(1)  # a checkpoint takes its time
(here / f"saved{{os.environ['RANK']}}").touch()
print("stopped at step 7 {STOPPED}", file=sys.stderr)
"""


def test_sigterm_passes_through_the_real_torchrun_to_every_python_process(cluster):
    """Only torchrun is signalled here; Slurm signals its children as well."""
    (cluster.root / "pretrain").mkdir()
    (cluster.root / "pretrain/train.py").write_text(TRAINER)
    runs = cluster.root.parent / "runs"
    runs.mkdir()
    cluster.fake("hostname", "echo localhost")
    cluster.fake(
        "torchrun", f'exec {sysconfig.get_path("scripts")}/torchrun "${{{{@/:29500/:0}}}}"'
    )  # any free port
    cluster.fake("srun", 'echo $$ >{calls}\nshift 2\nexec "$@"')
    cluster.fake("scontrol", "echo $* >>{calls}")
    job = cluster.start("pretrain.sbatch", *ARM, **JOB | {"SLURM_NNODES": 1, "SLURM_GPUS_ON_NODE": 2})
    try:
        while not all((runs / f"ready{rank}").exists() for rank in (0, 1)) and job.poll() is None:
            time.sleep(0.1)
        torchrun = int(cluster.called()[0])
        os.kill(torchrun, signal.SIGTERM)
        said = "".join(job.communicate(timeout=60))
    finally:
        job.kill()
    assert {path.name for path in runs.glob("saved*")} == {"saved0", "saved1"}, said
    assert cluster.called() == [str(torchrun), "requeue 71"] and job.returncode == 0
