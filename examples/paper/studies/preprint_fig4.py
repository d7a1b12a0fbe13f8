"""The preprint's Fig. 4: SGD, SGD at a raised rate, and GRAPES; over epochs, depth and width."""

import dataclasses

from examples.paper.outcomes import difference, metrics_table, pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    base = of_scale(scale, learning_rate=scale.learning_rate)
    shapes = [(256,) * 10] + [(width,) * depth for width in scale.widths for depth in scale.depths]
    settings = vary(base, hidden=dict.fromkeys(shapes), seed=range(scale.seeds))
    found = []
    for one in settings:
        found += design([one], scale.arms)
        found.append(dataclasses.replace(one, raised_rate=True))
    return found


def arms(scale):
    return [*scale.arms, "plain, raised rate"]


def of(outcomes, scale, arm, width):
    shapes = [(width,) * depth for depth in scale.depths]
    return [o for h in shapes for o in outcomes.select(hidden=h) if o.settings.label == arm]


def over_raised(outcomes, metric):
    """GRAPES against SGD at the rate times the mean factor at the start, of each network."""
    grapes, raised = (
        {o.settings.hidden: o for o in outcomes if o.settings.label == label}
        for label in ("GRAPES", "plain, raised rate")
    )
    return [difference(grapes[h], raised[h], metric) for h in grapes if h in raised]


def tables(outcomes, scale):
    curve = [(o.settings.label, o) for o in outcomes.select(hidden=(256,) * 10)]
    found = [("a: 10x256 ReLU", metrics_table(curve, "arm", ["final", "best", "slowness"]))]
    for panel, metric in (("b", "final"), ("c", "slowness")):
        for width in scale.widths:
            chosen = [o for arm in arms(scale) for o in of(outcomes, scale, arm, width)]
            columns = pivot(
                chosen, "arm", lambda s: s.label, lambda s: f"{len(s.hidden)} layers", metric
            )
            found.append((f"{panel}: layers of {width}, {metric}", columns))
    return found


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 1 + 2 * len(scale.widths))
    curve, *panels = axes[0]
    for arm in arms(scale):
        look = figures.LOOKS.get(arm, figures.RAISED)
        for outcome in outcomes.select(hidden=(256,) * 10):
            if outcome.settings.label == arm:
                figures.learning_curve(curve, outcome, arm, look)
        for width, accuracy, slowness in zip(scale.widths, panels[::2], panels[1::2]):
            found = of(outcomes, scale, arm, width)
            figures.over(accuracy, found, lambda s: len(s.hidden), "final", arm, look)
            figures.over(slowness, found, lambda s: len(s.hidden), "slowness", arm, look)
    figures.finish(curve, "epoch", title="a  10x256", whole=True)
    for width, accuracy, slowness in zip(scale.widths, panels[::2], panels[1::2]):
        figures.finish(accuracy, "hidden layers", title=f"b  layers of {width}", whole=True)
        figures.finish(
            slowness, "hidden layers", "slowness (epochs)", f"c  layers of {width}", whole=True
        )
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="preprint_fig4",
    title="Preprint, Fig. 4: GRAPES against SGD at a raised rate, over depth and width, MNIST",
    paper={
        **MNIST,
        "learning_rate": 0.001,
        "widths": (128, 256, 512),
        "depths": (2, 4, 6, 8, 10),
        "arms": tuple(ARMS),
        "epochs": 100,
        "seeds": 5,
    },
    reduced={"widths": (256,), "depths": (2, 6, 10), "epochs": 8},
    quick={**LOOK, "widths": (32,), "depths": (2, 3)},
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim("Preprint, Fig. 4b: GRAPES is better at each depth"),
        Claim("Preprint, Fig. 4a, b: GRAPES beats SGD at the raised rate", pairs=over_raised),
    ),
    note="The raised rate is the rate times the mean, over the hidden nodes, of the factors at the "
    "start. Layer sizes and depths are ours: the text does not give them.",
)
