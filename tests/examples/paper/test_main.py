import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("tensorflow_datasets")

from examples.paper import __main__ as command
from examples.paper.outcomes import Outcomes, cell
from examples.paper.records import Records
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.studies import STUDIES, controls
from examples.paper.study import Claim, Study
from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).parents[3]
COMMAND = ("-m", "examples.paper")


def runs(scale):
    base = of_scale(scale, hidden=(256,), learning_rate=0.01)
    return design(vary(base, seed=range(scale.seeds)), scale.arms)


TINY = Study(
    name="tiny",
    title="A study for the tests",
    paper={
        "dataset": "digits",
        "train_examples": 128,
        "test_examples": 50,
        "depths": (1,),
        "learning_rates": (0.01,),
        "arms": tuple(ARMS),
        "epochs": 9,
        "seeds": 5,
    },
    reduced={"epochs": 2, "seeds": 2},
    quick={"epochs": 1, "seeds": 1, "arms": ("plain", "GRAPES")},
    runs=runs,
    tables=controls.tables,
    figure=controls.figure,
    claims=(Claim("GRAPES is better"),),
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(STUDIES, "tiny", TINY)


def lines(folder):
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


def test_records_skips_reports(tiny, tmp_path, capsys):
    command.main(["tiny", "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert "2 runs, 0 recorded" in out
    assert "epochs 1 (paper: 9); seeds 1 (paper: 5)" in out
    first = lines(tmp_path)
    assert [entry["settings"]["arm"] for entry in first] == ["plain", "GRAPES"]
    assert first[0]["versions"]["keras"] and first[0]["seconds"] > 0
    assert len(first[0]["epochs"]["test_accuracy"]) == 1

    command.main(["tiny", "--output", str(tmp_path), "--seeds", "2"])
    assert "4 runs, 2 recorded" in capsys.readouterr().out
    after = lines(tmp_path)
    assert after[:2] == first and len(after) == 4

    written = (tmp_path / "runs.jsonl").read_bytes()
    for name in ("tiny.md", "tiny.png"):
        (tmp_path / name).unlink()
    command.main(["tiny", "--output", str(tmp_path), "--seeds", "3", "--plot-only"])
    assert (tmp_path / "runs.jsonl").read_bytes() == written
    table = (tmp_path / "tiny.md").read_text()
    assert "Preset quick" in table and "Incomplete: 4 of 6 runs" in table
    accuracy = [e["epochs"]["test_accuracy"][-1] for e in after if e["settings"]["arm"] == "plain"]
    mean = 100 * sum(accuracy) / 2
    deviation = 100 * abs(accuracy[0] - accuracy[1]) / 2**0.5
    assert f"| plain  | {mean:.2f} ± {deviation:.2f} (2)" in table
    grapes = [e["epochs"]["test_accuracy"][-1] for e in after if e["settings"]["arm"] == "GRAPES"]
    gain = 100 * (sum(grapes) - sum(accuracy)) / 2
    assert "Paired differences, final" in table and f"{gain:+.2f} [" in table
    assert (tmp_path / "tiny.png").stat().st_size > 10_000


def test_plot_only_without_records(tiny, tmp_path, capsys):
    command.main(["tiny", "--output", str(tmp_path), "--plot-only"])
    assert "Nothing is recorded yet" in capsys.readouterr().out
    assert not (tmp_path / "tiny.md").exists()


@pytest.mark.slow
def test_an_estimate_comes_first_with_the_preset_paper(tiny, tmp_path, capsys):
    command.main(
        ["tiny", "--output", str(tmp_path), "--preset", "paper", "--seeds", "1", "--arms", "paper"]
    )
    out = capsys.readouterr().out
    assert "The others will take about" in out
    assert len(lines(tmp_path)) == 2


def test_list_names_every_study(capsys):
    command.main(["--list"])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(STUDIES)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give a NAME"),
        (["fig9"], "invalid choice"),
        (["controls", "--preset", "tiny"], "invalid choice"),
        (["controls", "--jobs", "0"], "must be a whole number of at least 1"),
        (["controls", "--seeds", "none"], "must be a whole number of at least 1"),
        (["interval", "--arms", "all"], "interval has no choice of arms"),
        (["controls", "--output", __file__], "is a file; give a folder"),
    ],
)
def test_wrong_options_give_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert message in error and error.count("\n") == 1


def test_broken_records_give_one_line(tiny, tmp_path, capsys):
    (tmp_path / "runs.jsonl").write_text("nonsense\n")
    with pytest.raises(SystemExit):
        command.main(["tiny", "--output", str(tmp_path)])
    error = capsys.readouterr().err
    assert "line 1 of" in error and error.count("\n") == 1


def test_data_that_cannot_be_had_give_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setattr(command.data, "answers", lambda url: False)
    with pytest.raises(SystemExit):
        command.main(["table1", "--dataset", "cifar100", "--output", str(tmp_path)])
    error = capsys.readouterr().err
    assert "CIFAR-100" in error and error.count("\n") == 1


def start(folder, *more):
    """Starts a study of 42 short runs on the digits in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *COMMAND, "controls", "--dataset", "digits", "--output", folder, *more],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for_records(process, folder, count):
    path = folder / "runs.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_study_goes_on_where_it_stopped(tmp_path, jobs):
    process = start(tmp_path, "--jobs", jobs)
    try:
        wait_for_records(process, tmp_path, 7)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = Records(tmp_path / "runs.jsonl").load()
    assert 7 <= len(kept) < 42
    process = start(tmp_path, "--jobs", jobs)
    output = process.communicate()[0].decode()
    assert process.returncode == 0, output
    assert f"42 runs, {len(kept)} recorded" in output
    entries = lines(tmp_path)
    assert len(entries) == 42
    assert len({json.dumps(entry["settings"]) for entry in entries}) == 42
    found = Records(tmp_path / "runs.jsonl").load()
    assert all(found[settings] == entry for settings, entry in kept.items())


def test_interrupted_it_ends_with_one_line_and_keeps_what_is_recorded(tmp_path):
    process = start(tmp_path, "--jobs", "2", "--arms", "paper")
    try:
        wait_for_records(process, tmp_path, 2)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=PATIENCE)[0].decode()
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in output and output.rstrip().endswith("Interrupted.")
    assert len(Records(tmp_path / "runs.jsonl").load()) >= 2


@pytest.mark.slow
def test_a_killed_worker_gives_one_line_and_keeps_what_is_recorded(tmp_path):
    process = start(tmp_path, "--jobs", "2")
    try:
        wait_for_records(process, tmp_path, 2)
        children = subprocess.run(
            ["ps", "--no-headers", "-o", "pid,args", "--ppid", str(process.pid)],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        worker = next(int(line.split()[0]) for line in children if "spawn_main" in line)
        os.kill(worker, signal.SIGKILL)
        output = process.communicate(timeout=PATIENCE)[0].decode()
    finally:
        process.kill()
    assert process.returncode == 2
    assert "a process of the study ended by itself" in output and "Traceback" not in output
    assert len(Records(tmp_path / "runs.jsonl").load()) >= 2


def test_diverged_runs_are_counted():
    scale = TINY.scale("quick")
    settings = TINY.runs(scale)[0]
    entries = {settings: {"epochs": {"test_accuracy": [0.25, 0.5]}, "diverged": True}}
    (outcome,) = Outcomes([settings], entries)
    assert cell(outcome, "final") == "50.00 (1), 1 diverged"
    assert cell(outcome, "best") == "50.00 (1), 1 diverged"


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_quick_of_every_study(name, tmp_path):
    end = subprocess.run(
        [sys.executable, *COMMAND, name, "--output", tmp_path, "--jobs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if "does not answer" in end.stderr:
        pytest.skip(end.stderr.strip())
    assert end.returncode == 0, end.stderr
    assert (tmp_path / f"{name}.md").stat().st_size > 200
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
