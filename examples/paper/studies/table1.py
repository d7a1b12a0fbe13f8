"""Table 1: a residual network of nine layers, with Adam."""

from examples.paper.outcomes import metrics_table
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import Claim, Study


def runs(scale):
    base = of_scale(
        scale,
        network="residual",
        filters=scale.filters,
        dropout=0.2,
        optimizer="Adam",
        decay_every=50,
    )
    settings = vary(base, learning_rate=scale.learning_rates, seed=range(scale.seeds))
    return design(settings, scale.arms)


def tables(outcomes, scale):
    rows = [(f"{o.settings.arm}, rate {o.settings.learning_rate:g}", o) for o in outcomes]
    return [(f"Adam, {scale.dataset}", metrics_table(rows, "arm", ["final", "best"]))]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 1)
    for outcome in outcomes:
        arm = outcome.settings.arm
        figures.learning_curve(axes[0, 0], outcome, arm, figures.LOOKS[arm])
    figures.finish(axes[0, 0], "epoch", title=scale.dataset, whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="table1",
    title="Table 1: nine-layer residual network, Adam, CIFAR-10 (--dataset cifar100: the other)",
    paper={
        "dataset": "cifar10",
        "train_examples": None,
        "validation_examples": 10_000,
        "test_examples": None,
        "filters": 64,
        "learning_rates": (0.001, 0.003, 0.01),
        "arms": tuple(ARMS),
        "epochs": 250,
        "seeds": 10,
    },
    reduced={
        "train_examples": 10_000,
        "validation_examples": 2000,
        "test_examples": 2000,
        "filters": 16,
        "learning_rates": (0.01,),
        "epochs": 10,
        "seeds": 5,
    },
    quick={
        "validation_examples": 100,
        "filters": 8,
        "learning_rates": (0.01,),
        "train_examples": 192,
        "test_examples": 100,
        "epochs": 1,
        "seeds": 1,
    },
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(Claim("Table 1: GRAPES is better on CIFAR-10 (84.78 to 85.59 %)"),),
    note="The paper optimizes the rate for each, around 0.01; the rates below it and the dropout, "
    "20 % ahead of the output, are ours. Batch normalization is Keras's, in place of the "
    "authors' own; pixels are in [0, 1].",
)
