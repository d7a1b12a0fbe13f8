"""Supplementary Note 4: how the weights are distributed after training."""

import statistics

from examples.paper.outcomes import markdown
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Study

NUMBERS = ("variance", "kurtosis", "tail")


def runs(scale):
    base = of_scale(
        scale,
        hidden=(256,) * scale.depth,
        dropout=0.1,
        learning_rate=scale.learning_rate,
        record=("weights",),
    )
    return design(vary(base, seed=range(scale.seeds)), scale.arms)


def of_layer(outcome, layer, number):
    """A number of the weights of a layer at the end, a list with one per run."""
    return [record["weights"][-1][layer][number] for record in outcome.records]


def tables(outcomes, scale):
    found = []
    for number in NUMBERS:
        rows = []
        for outcome in outcomes:
            values = [of_layer(outcome, layer, number) for layer in range(scale.depth)]
            rows.append([outcome.settings.arm, *(f"{statistics.fmean(v):.4g}" for v in values)])
        header = ["arm", *(f"layer {layer + 1}" for layer in range(scale.depth))]
        found.append((f"{number} of the weights at the end", markdown(header, rows)))
    return found


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, len(NUMBERS))
    layers = range(scale.depth)
    for number, panel in zip(NUMBERS, axes[0]):
        for outcome in outcomes:
            arm = outcome.settings.arm
            columns = [of_layer(outcome, layer, number) for layer in layers]
            figures.band(panel, [n + 1 for n in layers], columns, arm, figures.LOOKS[arm])
        label = "share beyond 3 standard deviations" if number == "tail" else number
        figures.finish(panel, "hidden layer", label, whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="weights",
    title="Supplementary Note 4: the distribution of the weights, 10 % dropout, MNIST",
    paper={
        **MNIST,
        "depth": 10,
        "learning_rate": 0.001,
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={"epochs": 20, "seeds": 5},
    quick={**LOOK, "depth": 4},
    runs=runs,
    tables=tables,
    figure=figure,
    metric=None,
    note="Network and learning rate are ours: the supplement was not available to us. Kurtosis: 0 "
    "of normally distributed weights, -1.2 of the uniform ones at the start. In the tables the "
    "mean over the runs.",
)
