"""Fig. 4b to d: SGD against GRAPES on MNIST, over layer sizes and learning rates."""

from examples.paper.outcomes import difference, pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    grid = vary(
        of_scale(scale, dropout=0.1),
        hidden=[(width,) * 4 for width in scale.widths],
        learning_rate=scale.learning_rates,
        seed=range(scale.seeds),
    )
    return design(grid, scale.arms)


def rate(settings):
    return f"rate {settings.learning_rate:g}"


def tables(outcomes, scale):
    return [
        (
            f"{panel}: 4x{width} ReLU, {metric}",
            pivot(outcomes.select(hidden=(width,) * 4), "arm", lambda s: s.arm, rate, metric),
        )
        for panel, metric in (("4b, c", "final"), ("4d", "slowness"))
        for width in scale.widths
    ]


def cross_section(outcomes, metric):
    """GRAPES at 0.05 against plain training at 0.1, of each size."""
    slow, fast = (
        {o.settings.hidden: o for o in outcomes if (o.settings.arm, o.settings.learning_rate) == at}
        for at in (("GRAPES", 0.05), ("plain", 0.1))
    )
    return [difference(slow[size], fast[size], metric) for size in slow if size in fast]


def best_rate(outcomes, width, arm):
    """The outcome of the rate at which an arm does best in validation, as a list."""
    found = outcomes.select(hidden=(width,) * 4, arm=arm)
    return sorted(found, key=lambda o: o.mean("validation"))[-1:]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 3)
    sizes, rates, slowness = axes.flat
    width = scale.widths[len(scale.widths) // 2]
    for arm in scale.arms:
        look = figures.LOOKS[arm]
        best = [o for w in scale.widths for o in best_rate(outcomes, w, arm)]
        figures.over(sizes, best, lambda s: s.hidden[0], "final", arm, look)
        found = outcomes.select(arm=arm, hidden=(width,) * 4)
        figures.over(rates, found, lambda s: s.learning_rate, "final", arm, look)
        figures.over(slowness, found, lambda s: s.learning_rate, "slowness", arm, look)
    figures.finish(sizes, "units of each of 4 layers", title="b  each at its best rate", log=True)
    figures.finish(rates, "learning rate", title=f"c  4x{width}", log=True)
    figures.finish(slowness, "learning rate", "slowness (epochs)", f"d  4x{width}", log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="fig4b",
    title="Fig. 4b to d: four hidden ReLU layers, 10 % dropout, MNIST",
    paper={
        **MNIST,
        "widths": (32, 64, 128, 256, 512),
        "learning_rates": (0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 10,
    },
    reduced={
        "widths": (64, 256),
        "learning_rates": (0.001, 0.01, 0.05, 0.1, 0.5),
        "epochs": 15,
        "seeds": 5,
    },
    long={"widths": (256,), "learning_rates": (0.05, 0.1), "seeds": 5},
    quick={**LOOK, "widths": (32, 64), "learning_rates": (0.01, 0.1), "epochs": 2},
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim("Fig. 4c: GRAPES is better for each pair of rate and size"),
        Claim("Fig. 4d: GRAPES is faster at every rate (slowness)", "slowness"),
        Claim("Fig. 4b: GRAPES at rate 0.05 beats SGD at 0.1", pairs=cross_section),
    ),
    note="The paper's text gives the range of the rates, 0.001 to 0.5, not the sizes on its axes: "
    "those are ours.",
)
