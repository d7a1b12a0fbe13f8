"""Fig. 4a: SGD against GRAPES over epochs, with ten hidden layers."""

from examples.paper.outcomes import metrics_table
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    base = of_scale(scale, hidden=(256,) * 10, learning_rate=scale.learning_rate)
    return design(vary(base, seed=range(scale.seeds)), scale.arms)


def tables(outcomes, scale):
    rows = [(o.settings.arm, o) for o in outcomes]
    return [("10x256 ReLU", metrics_table(rows, "arm", ["final", "best", "slowness"]))]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 1)
    for outcome in outcomes:
        look = figures.LOOKS[outcome.settings.arm]
        figures.learning_curve(axes[0, 0], outcome, outcome.settings.arm, look)
        figures.plateau_fit(axes[0, 0], outcome, look)
    figures.finish(axes[0, 0], "epoch", title="thin: plateau fit", whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="fig4a",
    title="Fig. 4a: 10x256 ReLU without dropout over epochs, learning rate 0.001, MNIST",
    paper={**MNIST, "learning_rate": 0.001, "arms": tuple(ARMS), "epochs": 100, "seeds": 1},
    reduced={"epochs": 15, "seeds": 5},
    long={"seeds": 5},
    quick={**LOOK, "epochs": 2},
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim("Fig. 4a: GRAPES ends higher than SGD at the same rate"),
        Claim("Fig. 4a: GRAPES is faster (slowness)", "slowness"),
    ),
)
