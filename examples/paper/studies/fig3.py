"""Fig. 3: how the modulation factors change while a deep tanh network learns."""

from examples.paper.outcomes import markdown
from examples.paper.settings import design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Study


def runs(scale):
    base = of_scale(
        scale,
        hidden=(256,) * 10,
        activation="tanh",
        dropout=0.1,
        learning_rate=scale.learning_rate,
        record=("modulation",),
    )
    return design(vary(base, seed=range(scale.seeds)), scale.arms)


def tables(outcomes, scale):
    found = []
    for outcome in outcomes:
        start, end = (outcome.records[0]["modulation"][when] for when in (0, -1))
        rows = [
            [layer, *(f"{w[key]:.3f}" for w in (a, b) for key in ("mean", "deviation", "at_floor"))]
            for layer, (a, b) in enumerate(zip(start, end), start=1)
        ]
        header = ["layer", "mean at start", "deviation", "at 1", "mean at end", "deviation", "at 1"]
        found.append((f"{outcome.settings.arm}, one run", markdown(header, rows)))
    return found


def figure(outcomes, scale):
    import numpy as np

    from examples.paper import figures

    picture, (means, shares) = figures.new(2, len(scale.arms), sharey="row")
    for arm, mean, share in zip(scale.arms, means, shares):
        for outcome in outcomes.select(arm=arm):
            measured = outcome.records[0]["modulation"]
            for layer in range(len(measured[0])):
                look = figures.shade(layer, len(measured[0]))
                mean.plot([m[layer]["mean"] for m in measured], **look, label=f"layer {layer + 1}")
            for layer in range(3):
                counts = np.array(measured[-1][layer]["histogram"])
                ends = measured[-1][layer].get("edges", outcome.settings.bounds)
                edges = np.linspace(*ends, len(counts) + 1)
                look = figures.shade(layer, len(measured[0]))
                share.stairs(counts / counts.sum(), edges, **look)
        figures.finish(mean, "epoch", "mean factor", f"a  {arm}", whole=True)
        figures.finish(share, "factor", "share of the nodes", f"b  {arm}, layers 1 to 3 at the end")
    figures.legend(picture, means.reshape(1, -1))
    return picture


STUDY = Study(
    name="fig3",
    title="Fig. 3: modulation factors of a 10x256 tanh network, 10 % dropout, MNIST",
    paper={
        **MNIST,
        "learning_rate": 0.001,
        "arms": ("plain", "GRAPES"),
        "epochs": 200,
        "seeds": 1,
    },
    reduced={"epochs": 50},
    long={},
    quick={**LOOK, "epochs": 3},
    runs=runs,
    tables=tables,
    figure=figure,
    metric=None,
    note="The factors of plain training are those that GRAPES would use.",
)
