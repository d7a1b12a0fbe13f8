"""GRAPES with Adam, which divides a constant factor out again: the local version, and the other."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study

VERSIONS = ("local", "propagating")


def runs(scale):
    base = of_scale(scale, hidden=(256,) * 3, dropout=0.1, optimizer="Adam")
    settings = vary(base, learning_rate=scale.learning_rates, seed=range(scale.seeds))
    return design(settings, scale.arms, VERSIONS)


def tables(outcomes, scale):
    return [
        (
            f"{version} version",
            pivot(
                [o for arm in scale.arms for o in outcomes.arm(arm, version)],
                "arm",
                lambda s: s.arm,
                lambda s: f"rate {s.learning_rate:g}",
                "final",
            ),
        )
        for version in VERSIONS
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, len(VERSIONS), sharey=True)
    for version, panel in zip(VERSIONS, axes[0]):
        for arm in scale.arms:
            found = outcomes.arm(arm, version)
            figures.over(panel, found, lambda s: s.learning_rate, "final", arm, figures.LOOKS[arm])
        figures.finish(panel, "learning rate", title=version, log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="adam",
    title="Adam with the local and the propagating version, 3x256 ReLU, 10 % dropout, MNIST",
    paper={
        **MNIST,
        "learning_rates": (0.0001, 0.0003, 0.001),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={"learning_rates": (0.0003, 0.001), "epochs": 10},
    quick={**LOOK, "learning_rates": (0.001,)},
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim(
            "Adam, local: GRAPES is better at each rate",
            where=lambda s: s.version == "local" or s.arm == "plain",
        ),
        Claim(
            "Adam, propagating: GRAPES is better at each rate",
            where=lambda s: s.version == "propagating" or s.arm == "plain",
        ),
    ),
    full="whole",
    note="The paper has no such comparison.",
)
