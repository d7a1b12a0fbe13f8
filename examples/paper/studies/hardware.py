"""Supplementary Note 5: training with noisy updates and weights of few bits."""

import dataclasses

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    base = of_scale(scale, hidden=(256,) * 3, learning_rate=scale.learning_rate)
    constrained = [
        base,
        *(dataclasses.replace(base, bits=bits) for bits in scale.bits),
        *(dataclasses.replace(base, noise=noise) for noise in scale.noise),
    ]
    return design([r for s in constrained for r in vary(s, seed=range(scale.seeds))], scale.arms)


def constraint(settings):
    if settings.bits:
        return f"{settings.bits} bits"
    return f"noise {settings.noise:g}" if settings.noise else "none"


def tables(outcomes, scale):
    return [("3x256 ReLU", pivot(outcomes, "constraint", constraint, lambda s: s.arm, "best"))]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 2)
    for arm in scale.arms:
        found = outcomes.select(arm=arm)
        look = figures.LOOKS[arm]
        for panel, constrained in zip(axes[0], ("bits", "noise")):
            chosen = [o for o in found if getattr(o.settings, constrained)]
            figures.over(panel, chosen, lambda s: s.bits or s.noise, "best", arm, look)
    figures.finish(axes[0, 0], "bits of a weight", whole=True)
    figures.finish(axes[0, 1], "noise of an update, by the range of the weights", log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="hardware",
    title="Supplementary Note 5: noisy updates and weights of few bits, MNIST",
    paper={
        **MNIST,
        "learning_rate": 0.01,
        "bits": (4, 6, 8),
        "noise": (0.0001, 0.001, 0.01),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={"bits": (4, 8), "noise": (0.0001, 0.001), "epochs": 6, "seeds": 5},
    quick={**LOOK, "bits": (6,), "noise": (0.001,)},
    runs=runs,
    tables=tables,
    figure=figure,
    metric="best",
    claims=(Claim("Suppl. Note 5: GRAPES is better under each constraint", "best"),),
    note="Noise, precision (stochastic rounding, weights from -0.5 to 0.5), network and learning "
    "rate are ours: the supplement was not available to us.",
)
