"""Fig. 7: spiking neural units and soft ones, over layer size, learning rate and depth."""

import dataclasses

from examples.paper.outcomes import metrics_table, pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import MNIST, Claim, Study

BEST = {"SNU": (3, 0.1), "SSNU": (2, 0.2)}
# Pairs of unit and reset. The graded reset of the soft unit is its own.
UNITS = (("SNU", "soft"), ("SNU", "subtract"), ("SSNU", "gate"))


def named(network, reset):
    return "sSNU" if network == "SSNU" else f"SNU, reset {reset}"


def runs(scale):
    base = of_scale(scale, network="SNU", batch_size=15, test_steps=scale.test_steps)
    settings = []
    for network, reset in UNITS:
        depth, rate = BEST[network]
        of_size = dataclasses.replace(base, network=network, reset=reset, learning_rate=rate)
        settings += vary(of_size, hidden=[(width,) * depth for width in scale.widths])
    three = dataclasses.replace(base, network="SNU", hidden=(scale.width,) * 3)
    settings += vary(three, reset=("soft", "subtract"), learning_rate=scale.learning_rates)
    of_depth = dataclasses.replace(base, network="SSNU", learning_rate=BEST["SSNU"][1])
    settings += vary(of_depth, hidden=[(scale.width,) * depth for depth in scale.depths])
    return design([r for s in settings for r in vary(s, seed=range(scale.seeds))], scale.arms)


def of_rate(outcomes, scale, **more):
    """The outcomes of panel b, by their learning rate."""
    found = outcomes.select(network="SNU", reset="soft", hidden=(scale.width,) * 3, **more)
    return sorted(found, key=lambda o: o.settings.learning_rate)


def tables(outcomes, scale):
    found = []
    for network, reset in UNITS:
        depth, rate = BEST[network]
        of_size = [
            o
            for width in scale.widths
            for o in outcomes.select(
                network=network, reset=reset, hidden=(width,) * depth, learning_rate=rate
            )
        ]
        found.append(
            (
                f"7a: {depth} layers of {named(network, reset)}, learning rate {rate:g}",
                pivot(of_size, "arm", lambda s: s.arm, lambda s: f"{s.hidden[0]} units", "final"),
            )
        )
    found.append(
        (
            f"7b: 3x{scale.width} SNU, reset soft",
            pivot(
                of_rate(outcomes, scale),
                "arm",
                lambda s: s.arm,
                lambda s: f"rate {s.learning_rate:g}",
                "final",
            ),
        )
    )
    for depth in scale.depths:
        of_depth = outcomes.select(network="SSNU", hidden=(scale.width,) * depth)
        found.append(
            (
                f"7c: {depth}x{scale.width} sSNU",
                metrics_table(
                    [(o.settings.arm, o) for o in of_depth], "arm", ["final", "slowness"]
                ),
            )
        )
    return found


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(2, 3)
    for (network, reset), panel in zip(UNITS, axes[0]):
        depth, rate = BEST[network]
        for arm in scale.arms:
            found = [
                o
                for width in scale.widths
                for o in outcomes.select(
                    network=network,
                    reset=reset,
                    hidden=(width,) * depth,
                    learning_rate=rate,
                    arm=arm,
                )
            ]
            figures.over(panel, found, lambda s: s.hidden[0], "final", arm, figures.LOOKS[arm])
        title = f"a  {depth} layers of {named(network, reset)}, rate {rate:g}"
        figures.finish(panel, "units of each layer", title=title, log=True)
    rates, deep, empty = axes[1]
    empty.set_axis_off()
    for arm in scale.arms:
        look = figures.LOOKS[arm]
        found = of_rate(outcomes, scale, arm=arm)
        figures.over(rates, found, lambda s: s.learning_rate, "final", arm, look)
        for outcome in outcomes.select(
            network="SSNU", hidden=(scale.width,) * scale.depths[-1], arm=arm
        ):
            figures.learning_curve(deep, outcome, arm, look)
    figures.finish(rates, "learning rate", title=f"b  3x{scale.width} SNU, reset soft", log=True)
    figures.finish(deep, "epoch", title=f"c  {scale.depths[-1]}x{scale.width} sSNU", whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="fig7",
    title="Fig. 7: spiking neural units (SNU, sSNU) on rate-coded MNIST",
    paper={
        **MNIST,
        "test_steps": 300,
        "width": 256,
        "widths": (64, 128, 256, 512),
        "learning_rates": (0.001, 0.01, 0.1),
        "depths": (4, 6),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={
        "train_examples": 20000,
        "validation_examples": 2000,
        "test_examples": 2000,
        "test_steps": 100,
        "widths": (64, 256),
        "depths": (4,),
        "epochs": 3,
        "seeds": 5,
    },
    quick={
        "train_examples": 300,
        "validation_examples": 100,
        "test_examples": 100,
        "test_steps": 20,
        "width": 32,
        "widths": (32,),
        "learning_rates": (0.1,),
        "depths": (4,),
        "epochs": 1,
        "seeds": 1,
    },
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim(
            "Fig. 7a: SNU, GRAPES is better at each size and rate",
            where=lambda s: s.network == "SNU",
        ),
        Claim("Fig. 7a: sSNU, GRAPES is better at each size", where=lambda s: s.network == "SSNU"),
    ),
    note="The paper's SNU has a soft reset that it does not define: `soft` is our reading, "
    "`subtract` the literature's. Layer sizes, batch size 15, decay 0.8, rate 0.3 of a white pixel "
    "and the loss, the squared errors of the mean output rates summed, are ours or the SNU "
    "authors': the paper's text does not give them.",
)
