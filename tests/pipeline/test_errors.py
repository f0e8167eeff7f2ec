"""What a disk refuses is one line, whoever met it."""

import errno
import os
import subprocess
import sys

import pytest

from pipeline.errors import cli
from pipeline.files import ROOT


@pytest.mark.parametrize(
    "error, line",
    [
        (OSError(errno.ENOSPC, "x"), "error: No space left on device; make room and run it again"),
        (OSError(errno.EROFS, "x", "/a/b"), "error: /a/b: Read-only file system; set RUNS"),
        (PermissionError(errno.EACCES, "x", "/a"), "error: /a: Permission denied; set RUNS"),
        (ValueError("I/O error: No space left on device (os error 28)"), "error: No space left on device"),
    ],
)
def test_a_disk_that_refuses_is_one_line(capsys, error, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        cli(main)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(line) and said.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("a fault"), FileNotFoundError(errno.ENOENT, "x", "y"), KeyError("k")]
)
def test_a_fault_of_the_program_keeps_its_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        cli(main)


def test_a_stage_on_a_full_disk_is_one_line(tmp_path):
    """/dev/full refuses every write; where RUNS cannot be made, nothing can."""
    (tmp_path / "runs").write_text("a file, not a folder")
    words = ["-m", "tokenizer.build", "experiments/quickstart.yaml", "baseline", "0"]
    environment = os.environ | {"RUNS": str(tmp_path / "runs")}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, (
        done.stderr
    )
