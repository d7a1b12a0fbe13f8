"""The 2 x 2 design: what of GRAPES comes from its pattern, what from the larger learning rate."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import MNIST, Claim, Study

VERSIONS = ("local", "propagating")


def runs(scale):
    settings = vary(
        of_scale(scale),
        hidden=[(256,) * depth for depth in scale.depths],
        learning_rate=scale.learning_rates,
        seed=range(scale.seeds),
    )
    return design(settings, scale.arms, VERSIONS)


def tables(outcomes, scale):
    return [
        (
            f"{depth}x256 ReLU, {version} version",
            pivot(
                [
                    o
                    for arm in scale.arms
                    for o in outcomes.arm(arm, version, hidden=(256,) * depth)
                ],
                "arm",
                lambda s: s.arm,
                lambda s: f"learning rate {s.learning_rate:g}",
                "final",
            ),
        )
        for depth in scale.depths
        for version in VERSIONS
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(len(VERSIONS), len(scale.depths), sharex=True)
    for version, row in zip(VERSIONS, axes):
        for depth, panel in zip(scale.depths, row):
            for arm in scale.arms:
                found = outcomes.arm(arm, version, hidden=(256,) * depth)
                figures.over(
                    panel, found, lambda s: s.learning_rate, "final", arm, figures.LOOKS[arm]
                )
            title = f"{depth}x256 ReLU, {version}"
            figures.finish(panel, "learning rate", title=title, log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="controls",
    title="GRAPES, its raised mean alone and its node-wise pattern alone, MNIST",
    paper={
        **MNIST,
        "depths": (4, 10),
        "learning_rates": (0.001, 0.01, 0.1),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 10,
    },
    reduced={"epochs": 7, "seeds": 5},
    quick={
        "train_examples": 3000,
        "validation_examples": 1000,
        "test_examples": 1000,
        "epochs": 1,
        "seeds": 1,
    },
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(Claim("GRAPES is better at each depth, rate and version"),),
    full="whole",
    note="The paper has no such comparison.",
)
