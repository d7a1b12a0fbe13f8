import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from examples import command_line, distributed_mnist
from tests.patience import PATIENCE

for module in ("matplotlib", "sklearn", "tensorflow_datasets"):
    pytest.importorskip(module)

SCRIPT = pathlib.Path(distributed_mnist.__file__)


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, SCRIPT, "--dataset", "digits", "--output", "out", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def children(process):
    """Ids of the processes that a process has started."""
    listing = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listing.read_text().split()]


def is_running(number):
    try:
        status = pathlib.Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
    # Ended, and not yet asked for by its parent.
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_wrong_option_gives_one_line(capsys):
    parser = command_line.Parser(prog="distributed_mnist.py")
    with pytest.raises(SystemExit) as caught:
        distributed_mnist.parse(parser, ["--workers", "0"])
    assert caught.value.code == 2
    message = "argument --workers: must be a whole number of at least 1, received '0'"
    assert capsys.readouterr().err == f"distributed_mnist.py: error: {message}\n"


def test_failure_of_a_worker_is_told_while_the_others_wait():
    programs = [f"import time; time.sleep({PATIENCE})", "raise SystemExit('no memory left')"]
    with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
        processes = [
            subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=error)
            for program, error in zip(programs, (first, second))
        ]
        try:
            with pytest.raises(distributed_mnist.WorkerError) as caught:
                distributed_mnist.wait_for(processes, (first, second))
            assert str(caught.value) == "worker 1 ended with status 1\nno memory left"
        finally:
            for process in processes:
                distributed_mnist.end(process)
        assert processes[0].returncode == -signal.SIGKILL


@pytest.mark.slow
def test_two_workers_learn_the_digits(tmp_path):
    done = start(tmp_path)
    out, err = done.communicate(timeout=PATIENCE)
    assert (done.returncode, err) == (0, "")
    # One of the workers reports.
    assert out.count("Epoch 10/10") == 1
    assert float(re.search(r"^Test accuracy  (\S+) %$", out, re.MULTILINE)[1]) > 90
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.keras"]


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("fault", ["interrupt", "terminate", "kill", "kill a worker"])
def test_no_worker_is_left(fault, tmp_path):
    process = start(tmp_path, "--epochs", "100000")
    for line in process.stdout:
        if "Epoch 2/" in line:
            break
    workers = children(process)
    assert len(workers) == 2
    if fault == "kill a worker":
        os.kill(workers[1], signal.SIGKILL)
    else:
        process.send_signal(
            {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}[fault]
        )
    _, err = process.communicate(timeout=PATIENCE)
    assert (
        process.returncode
        == {
            "interrupt": 130,
            "terminate": 128 + signal.SIGTERM,
            "kill": -signal.SIGKILL,
            "kill a worker": 1,
        }[fault]
    )
    if fault == "interrupt":
        assert err == "Interrupted.\n"
    if fault == "kill a worker":
        assert re.match(r"distributed_mnist\.py: error: worker \d ended with status -?\d", err)
    # The end of the parent reaches them through a pipe.
    end = time.monotonic() + PATIENCE
    while any(map(is_running, workers)):
        assert time.monotonic() < end
        time.sleep(0.1)
