"""Supplementary Note 3: accuracy over width and depth, at a learning rate that is too small."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    wide = [(width,) * scale.depth for width in scale.widths]
    deep = [(256,) * depth for depth in scale.depths]
    settings = vary(
        of_scale(scale, dropout=0.1, learning_rate=0.001),
        hidden=dict.fromkeys(wide + deep),
        seed=range(scale.seeds),
    )
    return design(settings, scale.arms)


def found_over(outcomes, shapes, **wanted):
    return [o for shape in shapes for o in outcomes.select(hidden=shape, **wanted)]


def tables(outcomes, scale):
    wide = found_over(outcomes, [(width,) * scale.depth for width in scale.widths])
    deep = found_over(outcomes, [(256,) * depth for depth in scale.depths])
    return [
        (
            f"{scale.depth} layers",
            pivot(wide, "arm", lambda s: s.arm, lambda s: f"{s.hidden[0]} units", "best"),
        ),
        (
            "256 units",
            pivot(deep, "arm", lambda s: s.arm, lambda s: f"{len(s.hidden)} layers", "best"),
        ),
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 2)
    wide, deep = axes[0]
    for arm in scale.arms:
        look = figures.LOOKS[arm]
        found = found_over(outcomes, [(width,) * scale.depth for width in scale.widths], arm=arm)
        figures.over(wide, found, lambda s: s.hidden[0], "best", arm, look)
        found = found_over(outcomes, [(256,) * depth for depth in scale.depths], arm=arm)
        figures.over(deep, found, lambda s: len(s.hidden), "best", arm, look)
    figures.finish(wide, f"units of each of {scale.depth} layers", log=True)
    figures.finish(deep, "layers of 256 units", whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="scalability",
    title="Supplementary Note 3: width and depth, 10 % dropout, learning rate 0.001, MNIST",
    paper={
        **MNIST,
        "depth": 3,
        "widths": (128, 256, 512, 1024),
        "depths": (2, 4, 6, 8, 10, 12),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={"widths": (128, 256, 512), "depths": (2, 6, 12), "epochs": 8, "seeds": 5},
    quick={**LOOK, "widths": (128, 256), "depths": (2, 6)},
    runs=runs,
    tables=tables,
    figure=figure,
    metric="best",
    claims=(Claim("Suppl. Note 3: GRAPES is better at each width and depth", "best"),),
    note="Depth of the widths and width of the depths are ours: the text does not give them.",
)
