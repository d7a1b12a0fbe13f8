"""Fig. 4: SGD against GRAPES on MNIST, over epochs, layer sizes and learning rates."""

from examples.paper.outcomes import metrics_table, pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Study


def runs(scale):
    curve = of_scale(scale, hidden=(256,) * 10, learning_rate=0.001)
    grid = vary(
        of_scale(scale),
        hidden=[(width,) * 4 for width in scale.widths],
        learning_rate=scale.learning_rates,
    )
    seeded = [s for base in (curve, *grid) for s in vary(base, seed=range(scale.seeds))]
    return design(seeded, scale.arms)


def tables(outcomes, scale):
    curve = [(o.settings.arm, o) for o in outcomes.select(hidden=(256,) * 10)]
    found = [
        (
            "4a: 10x256 ReLU, learning rate 0.001",
            metrics_table(curve, "arm", ["final", "best", "slowness"]),
        )
    ]
    for panel, metric in (("4b, c", "final"), ("4d", "slowness")):
        for width in scale.widths:
            found.append(
                (
                    f"{panel}: 4x{width} ReLU, {metric}",
                    pivot(
                        outcomes.select(hidden=(width,) * 4),
                        "arm",
                        lambda s: s.arm,
                        lambda s: f"rate {s.learning_rate:g}",
                        metric,
                    ),
                )
            )
    return found


def best_rates(outcomes, width, arm):
    """The outcome of the learning rate at which an arm does best, as a list; empty without runs."""
    found = outcomes.select(hidden=(width,) * 4, arm=arm)
    return sorted(found, key=lambda o: sum(o.values("final")) / len(o.values("final")))[-1:]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(2, 2)
    curve, sizes, rates, slowness = axes.flat
    width = scale.widths[len(scale.widths) // 2]
    for arm in scale.arms:
        look = figures.LOOKS[arm]
        for outcome in outcomes.select(arm=arm, hidden=(256,) * 10):
            figures.learning_curve(curve, outcome, arm, look)
            figures.plateau_fit(curve, outcome, look)
        best = [o for w in scale.widths for o in best_rates(outcomes, w, arm)]
        figures.over(sizes, best, lambda s: s.hidden[0], "final", arm, look)
        found = outcomes.select(arm=arm, hidden=(width,) * 4)
        figures.over(rates, found, lambda s: s.learning_rate, "final", arm, look)
        figures.over(slowness, found, lambda s: s.learning_rate, "slowness", arm, look)
    figures.finish(curve, "epoch", title="a  10x256, rate 0.001; thin: plateau fit", whole=True)
    figures.finish(sizes, "units of each of 4 layers", title="b  each at its best rate", log=True)
    figures.finish(rates, "learning rate", title=f"c  4x{width}", log=True)
    figures.finish(slowness, "learning rate", "slowness (epochs)", f"d  4x{width}", log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="fig4",
    title="Fig. 4: SGD and GRAPES on MNIST, ReLU networks",
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
        "seeds": 3,
    },
    quick={**LOOK, "widths": (32, 64), "learning_rates": (0.01, 0.1), "epochs": 2},
    runs=runs,
    tables=tables,
    figure=figure,
    note="The paper's text does not give the layer sizes and learning rates of its axes: ours.",
)
