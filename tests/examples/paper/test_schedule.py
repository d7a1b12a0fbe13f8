import concurrent.futures

import pytest

pytest.importorskip("tqdm")

from examples.paper import schedule
from examples.paper.records import Records
from examples.paper.settings import ARMS, Settings, design, vary

RUNS = design(vary(Settings(hidden=(8,)), seed=range(3)), tuple(ARMS))


class Inline(concurrent.futures.Executor):
    """An executor that does in this process what it is given."""

    def __init__(self, fail_at=None):
        self.given = []
        self._fail_at = fail_at

    def submit(self, function, settings):
        assert function is schedule.train
        self.given.append(settings)
        future = concurrent.futures.Future()
        if len(self.given) - 1 == self._fail_at:
            future.set_exception(concurrent.futures.BrokenExecutor())
        else:
            future.set_result({"epochs": {"loss": [0.5]}, "diverged": False})
        return future


def record(path, executor, pending=RUNS):
    records = Records(path)
    with records.writing():
        schedule.run_all(pending, records, executor=executor)
    return records.load()


def test_any_executor_serves(tmp_path):
    executor = Inline()
    found = record(tmp_path / "runs.jsonl", executor)
    assert set(found) == set(RUNS) == set(executor.given)


def test_a_worker_that_ends_by_itself_is_told_and_the_rest_kept(tmp_path):
    path = tmp_path / "runs.jsonl"
    with pytest.raises(schedule.WorkerError, match="a process of the study ended by itself"):
        record(path, Inline(fail_at=5))
    kept = Records(path).load()
    assert len(kept) < len(RUNS)
    pending = [settings for settings in RUNS if settings not in kept]
    assert set(record(path, Inline(), pending)) == set(RUNS)


def test_runs_of_one_program_follow_each_other_from_plain_training_on():
    order = sorted(RUNS, key=schedule._order)
    assert [s.arm for s in order] == [arm for arm in ARMS for _ in range(3)]
    assert [s.seed for s in order] == [0, 1, 2] * len(ARMS)


def test_long_runs_go_seed_by_seed():
    order = sorted(vary_epochs(RUNS), key=schedule._order)
    assert [s.seed for s in order] == [seed for seed in range(3) for _ in ARMS]
    assert [s.arm for s in order] == list(ARMS) * 3


def vary_epochs(runs):
    return [one for s in runs for one in vary(s, epochs=[schedule.LONG])]


@pytest.mark.parametrize(
    "seconds, text", [(3, "about 3 seconds"), (5400, "about 2 hours"), (200_000, "about 3 days")]
)
def test_durations_for_people(seconds, text):
    assert schedule.duration(seconds) == text
