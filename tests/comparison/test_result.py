import pytest

from keras_grapes.comparison.result import Comparison
from keras_grapes.comparison.runner import Metric

RATES = (0.1, 1.0, 10.0)
WIGGLE = (0.0, 0.001, -0.001, 0.002, -0.002)


def comparison(tests, metric="accuracy", validation=None, diverged=(), seeds=5):
    """A comparison whose arms reach given values at the middle rate, and less at the others."""
    measure = Metric(metric, "auto")
    runs = [
        {
            "arm": arm,
            "learning_rate": rate,
            "seed": seed,
            "history": {},
            "best_epoch": 1,
            "validation": (validation or {}).get((arm, rate), value - less * measure.sign),
            "test": value - less * measure.sign + WIGGLE[seed] * (arm != "plain"),
            "diverged": (arm, rate) in diverged,
        }
        for arm, value in tests.items()
        for rate, less in zip(RATES, (0.1, 0.0, 0.05))
        for seed in range(seeds)
    ]
    return Comparison(runs, tuple(tests), measure, {})


def four(grapes, mean, pattern=0.9):
    return {"plain": 0.9, "GRAPES": grapes, "mean only": mean, "pattern only": pattern}


@pytest.mark.parametrize(
    "tests, message",
    [
        # All wiggle alike, so that GRAPES and mean only differ by a fixed amount.
        (four(0.92, 0.91), r"^GRAPES beats plain training by 2.0\d points \(1.\d+ to 2.\d+, n = 5"),
        (four(0.92, 0.91), r"and the pattern adds 1.00 points \(1.00 to 1.00, n = 5\)\.$"),
        (four(0.92, 0.92), r"the gain is that of the larger rate: mean only gains 2"),
        (four(0.92, 0.93), r"the gain is that of the larger rate"),
        (
            four(0.9, 0.9),
            r"^Not decided whether GRAPES beats plain training: .*\(-0\.\d+ to 0\.\d+",
        ),
        (four(0.8, 0.9), r"^GRAPES is worse than plain training: -10\.0"),
    ],
)
def test_verdict_by_the_intervals(tests, message):
    import re

    assert re.search(message, comparison(tests).verdict())


def test_a_small_gain_of_the_mean_leaves_the_cause_open():
    found = comparison(four(0.903, 0.903))
    for run in found.runs:
        if run["arm"] == "mean only":
            run["test"] -= 3 * WIGGLE[run["seed"]]
    assert "not decided whether the pattern adds to it" in found.verdict()


def test_less_is_better_of_a_loss():
    found = comparison({"plain": 0.5, "GRAPES": 0.4}, metric="loss")
    assert found.learning_rates == {"plain": 1.0, "GRAPES": 1.0}
    assert found.difference("GRAPES").mean == pytest.approx(0.1)
    assert "GRAPES against plain: holds, 0.1" in found.verdict()
    assert "%" not in found.table()


def test_validation_chooses_the_rate_and_the_test_does_not():
    found = comparison(four(0.92, 0.92), validation={("plain", 10.0): 1.0})
    assert found.learning_rates["plain"] == 10.0
    assert found.difference("GRAPES").mean == pytest.approx(7.0)
    assert found.difference("GRAPES", learning_rate=1.0).mean == pytest.approx(2.0)


def test_a_best_rate_at_the_end_of_the_range_is_said():
    found = comparison(four(0.92, 0.92), validation={("plain", 10.0): 1.0})
    assert "plain did best at the largest learning rate: give larger ones." in found.verdict()
    assert "did best" not in comparison(four(0.92, 0.92)).verdict()


def test_few_seeds_are_said():
    assert "One seed has no interval" in comparison(four(0.92, 0.92), seeds=1).verdict()
    assert "3 seeds are few" in comparison(four(0.92, 0.92), seeds=3).verdict()


def test_a_rate_at_which_a_run_diverges_is_not_chosen():
    found = comparison(four(0.92, 0.92), diverged={("GRAPES", 1.0)})
    assert found.learning_rates["GRAPES"] == 10.0
    assert "diverged" in found.table("all")
    every = {("GRAPES", rate) for rate in RATES}
    found = comparison(four(0.92, 0.92), diverged=every)
    assert found.learning_rates["GRAPES"] is None and found.difference("GRAPES") is None
    assert found.verdict().startswith("Not decided: an arm diverged")
    assert "all diverged" in found.table()
    found.plot()


def test_table_has_means_deviations_and_paired_differences():
    table = comparison(four(0.92, 0.91)).table()
    header, _, plain, grapes, *_ = table.splitlines()
    assert header.split("|")[1:-1] == [
        cell
        for cell in header.split("|")[1:-1]
        if cell.strip()
        in {"arm", "learning rate", "test accuracy (%)", "minus plain", "minus mean only"}
    ]
    assert "90.00 ± 0.00 (5)" in plain
    # The deviation of 0, 0.1, -0.1, 0.2, -0.2 is the root of 0.1 / 4.
    assert "92.00 ± 0.16 (5)" in grapes and "+2.00 [+1.80, +2.20] (5)" in grapes
    assert len(comparison(four(0.92, 0.91)).table("all").splitlines()) == 2 + 4 * len(RATES)


def test_plot_has_the_arms_and_their_differences():
    figure = comparison(four(0.92, 0.91)).plot()
    over, differences = figure.axes
    assert [text.get_text() for text in over.get_legend().get_texts()] == list(four(0, 0))
    assert [label.get_text() for label in differences.get_yticklabels()] == [
        "GRAPES - plain",
        "mean only - plain",
        "pattern only - plain",
        "GRAPES - mean only",
    ]


def test_what_is_not_compared_is_refused():
    found = comparison(four(0.92, 0.91))
    with pytest.raises(ValueError, match=r"`arm` must be one of .*Received: arm='GRAPE'"):
        found.difference("GRAPE")
    with pytest.raises(ValueError, match="`learning_rate` must be one of"):
        found.difference("GRAPES", learning_rate=0.5)
    with pytest.raises(ValueError, match="`rates` must be"):
        found.table("best")


@pytest.mark.parametrize(
    "name, sign",
    [("accuracy", 1), ("auc", 1), ("loss", -1), ("poisson", -1), ("hinge", -1), ("log_cosh", -1)],
)
def test_which_way_a_metric_is_better(name, sign):
    assert Metric(name, "auto").sign == sign
