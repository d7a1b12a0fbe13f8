import math

import pytest

from examples.paper.outcomes import Outcomes, against, difference, pair_table, verdict
from examples.paper.settings import ARMS, Settings, design, vary
from keras_grapes.comparison import Difference


def outcomes(curves, versions=("propagating",), **changes):
    """Outcomes of arms whose test accuracies are given, by arm and then seed."""
    seeds = range(len(next(iter(curves.values()))))
    runs = design(vary(Settings(epochs=1, **changes), seed=seeds), tuple(curves), versions)
    records = {
        s: {
            "epochs": {"test_accuracy": [curves[s.arm][s.seed]], "validation_accuracy": [0.5]},
            "diverged": False,
        }
        for s in runs
    }
    return Outcomes(runs, records)


PLAIN = [0.90, 0.80, 0.85, 0.70, 0.75]


def test_runs_of_one_seed_are_a_pair():
    grapes = [value + 0.01 for value in PLAIN]
    ((settings, found),) = against(outcomes({"plain": PLAIN, "GRAPES": grapes}), "final")
    assert settings.arm == "GRAPES" and found.n == 5
    assert found.mean == pytest.approx(1) and found.low == pytest.approx(1)


def test_seeds_that_one_arm_lacks_are_left_out():
    both = outcomes({"plain": PLAIN, "GRAPES": [v + 0.01 for v in PLAIN]})
    plain, grapes = both
    grapes.records.pop(0), grapes.seeds.pop(0)
    found = difference(grapes, plain, "final")
    assert found.n == 4 and found.mean == pytest.approx(1)


def test_plain_training_is_the_pair_of_each_version():
    curves = {"plain": PLAIN, "GRAPES": PLAIN, "mean only": PLAIN}
    both = outcomes(curves, ("local", "propagating"))
    assert [s.version for s, _ in against(both, "final")] == ["local", "propagating"]
    found = against(both, "final", "GRAPES", "mean only")
    assert [s.version for s, _ in found] == ["local", "propagating"]


def test_less_is_better_of_slowness():
    fast, slow = ([0.8 * t / (d + t) for t in range(1, 30)] for d in (1.0, 3.0))
    runs = design([Settings(epochs=29)], ("plain", "GRAPES"))
    records = {
        s: {"epochs": {"test_accuracy": fast if s.arm == "GRAPES" else slow}, "diverged": False}
        for s in runs
    }
    ((_, found),) = against(Outcomes(runs, records), "slowness")
    assert found.mean > 1


def test_best_is_the_test_at_the_best_validation():
    runs = [Settings(epochs=3)]
    curves = {"test_accuracy": [0.5, 0.7, 0.9], "validation_accuracy": [0.6, 0.8, 0.7]}
    (outcome,) = Outcomes(runs, {runs[0]: {"epochs": curves, "diverged": False}})
    assert outcome.values("best") == [pytest.approx(70)]


def test_slowness_is_of_the_first_hundred_epochs():
    curve = [0.8 * t / (5 + t) for t in range(1, 101)]
    runs = [Settings(epochs=150)]
    found = []
    for more in ([], [0.1] * 50):
        record = {"epochs": {"test_accuracy": curve + more}, "diverged": False}
        (outcome,) = Outcomes(runs, {runs[0]: record})
        found += outcome.values("slowness")
    assert found[0] == found[1]


def test_future_is_the_mean_over_all_tasks_to_come():
    matrix = [[0.9, 0.2, 0.3], [0.8, 0.9, 0.4], [0.7, 0.8, 0.9]]
    runs = [Settings(tasks=3, epochs=1)]
    record = {"epochs": {"test_accuracy": [0.9, 0.9, 0.9]}, "tasks": matrix, "diverged": False}
    (outcome,) = Outcomes(runs, {runs[0]: record})
    assert outcome.values("future") == [pytest.approx(100 * (0.25 + 0.4) / 2)]


@pytest.mark.parametrize(
    "differences, expected",
    [
        ([(0.1, 0.3, 5)], "holds"),
        ([(0.1, 0.3, 4)], "not decided"),
        ([(0.1, 0.3, 5), (-0.1, 0.3, 5)], "not decided"),
        ([(0.1, 0.3, 5), (-0.3, -0.1, 5)], "does not hold"),
        ([(-math.inf, math.inf, 1)], "not decided"),
    ],
)
def test_a_claim_holds_if_all_its_differences_do(differences, expected):
    assert verdict([Difference(0.0, *d) for d in differences]) == expected


def test_a_table_has_a_row_a_setting_and_a_column_a_pair():
    table = pair_table(outcomes({arm: PLAIN for arm in ARMS}), "final")
    header, _, row = table.splitlines()
    assert "GRAPES - plain" in header and "pattern only - plain" in header
    assert row.count("+0.00 [+0.00, +0.00] (5): not decided") == 4
    assert pair_table(outcomes({"plain": PLAIN}), "final") == ""
