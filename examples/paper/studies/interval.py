"""Supplementary Note 1: other intervals of the factors than 1 to 2."""

import dataclasses

from examples.paper.outcomes import metrics_table
from examples.paper.settings import design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Study


def configurations(scale):
    base = of_scale(scale, hidden=(256,) * 4, dropout=0.1, learning_rate=scale.learning_rate)
    plain, grapes = design([base], ("plain", "GRAPES"))
    return [plain, *(dataclasses.replace(grapes, bounds=bounds) for bounds in scale.bounds)]


def runs(scale):
    return [s for base in configurations(scale) for s in vary(base, seed=range(scale.seeds))]


def label(settings):
    low, high = settings.bounds
    return "plain" if settings.arm == "plain" else f"{low:g} to {high:g}"


def tables(outcomes, scale):
    rows = [(label(o.settings), o) for o in outcomes]
    return [("4x256 ReLU", metrics_table(rows, "interval", ["best", "final", "slowness"]))]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 1)
    for number, outcome in enumerate(outcomes):
        look = {**figures.shade(number, len(scale.bounds) + 1), "marker": "o"}
        figures.learning_curve(axes[0, 0], outcome, label(outcome.settings), look)
    figures.finish(axes[0, 0], "epoch", whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="interval",
    title="Supplementary Note 1: the interval of the modulation factors, MNIST",
    paper={
        **MNIST,
        "learning_rate": 0.001,
        "bounds": (
            (1.0, 2.0),
            (0.0, 1.0),
            (0.0, 2.0),
            (0.5, 1.5),
            (1.0, 1.5),
            (1.0, 3.0),
            (1.0, 4.0),
        ),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={"epochs": 20, "seeds": 5},
    quick=LOOK,
    runs=runs,
    tables=tables,
    figure=figure,
    metric="best",
    note="The intervals are ours: the supplement was not available to us.",
)
