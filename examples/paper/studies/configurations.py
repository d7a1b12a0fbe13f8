"""Supplementary Table 3: a range of networks, dropout rates and deformations."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    settings = vary(
        of_scale(scale, learning_rate=0.001),
        hidden=[(width,) * depth for depth in scale.depths for width in scale.widths],
        activation=scale.activations,
        dropout=scale.dropouts,
        deformation=scale.deformations,
        seed=range(scale.seeds),
    )
    return design(settings, scale.arms)


def row(settings):
    deformation = f", {settings.deformation}" if settings.deformation else ""
    return f"{settings.title}, dropout {settings.dropout:g}{deformation}"


def tables(outcomes, scale):
    return [("MNIST", pivot(list(outcomes), "network", row, lambda s: s.arm, "best"))]


def figure(outcomes, scale):
    from examples.paper import figures

    rows = list(dict.fromkeys(row(o.settings) for o in outcomes))
    picture, axes = figures.new(1, 1)
    for arm in scale.arms:
        figures.points(axes[0, 0], outcomes.select(arm=arm), rows, row, "best", arm)
    figures.finish(axes[0, 0], "configuration, in the order of the table", whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="configurations",
    title="Supplementary Table 3: a range of configurations, MNIST",
    paper={
        **MNIST,
        "depths": (3, 10),
        "widths": (256, 512),
        "activations": ("relu", "tanh"),
        "dropouts": (0.0, 0.1, 0.25),
        "deformations": ("", "affine and elastic"),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={
        "widths": (256,),
        "dropouts": (0.0, 0.25),
        "deformations": ("",),
        "epochs": 8,
        "seeds": 5,
    },
    quick={
        **LOOK,
        "train_examples": 640,
        "depths": (3,),
        "widths": (256,),
        "activations": ("relu",),
        "dropouts": (0.25,),
    },
    runs=runs,
    tables=tables,
    figure=figure,
    metric="best",
    claims=(Claim("Suppl. Table 3: GRAPES is better in each configuration", "best"),),
    note="Strengths of the deformations are ours; so is the learning rate, 0.001, where the paper "
    "has one for each configuration and method.",
)
