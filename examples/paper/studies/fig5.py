"""Fig. 5: feedback alignment on EMNIST, direct feedback alignment on Fashion-MNIST."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, Settings, design, held_out, vary
from examples.paper.study import LOOK, Claim, Study

PANELS = (("FA", "emnist"), ("DFA", "fashion_mnist"))


def runs(scale):
    base = Settings(
        train_examples=scale.train_examples,
        test_examples=scale.test_examples,
        epochs=scale.epochs,
        dropout=0.1,
    )
    settings = [
        s
        for rule, dataset in PANELS
        for s in vary(
            held_out(base, scale, rule=rule, dataset=scale.dataset or dataset),
            hidden=[(width,) * 3 for width in scale.widths],
            learning_rate=scale.learning_rates,
            seed=range(scale.seeds),
        )
    ]
    return design(settings, scale.arms)


def tables(outcomes, scale):
    return [
        (
            f"{rule}, 3x{width} ReLU",
            pivot(
                outcomes.select(rule=rule, hidden=(width,) * 3),
                "arm",
                lambda s: s.arm,
                lambda s: f"rate {s.learning_rate:g}",
                "final",
            ),
        )
        for rule, _ in PANELS
        for width in scale.widths
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(2, 2)
    width, rate = (values[len(values) // 2] for values in (scale.widths, scale.learning_rates))
    for (rule, _), (sizes, rates) in zip(PANELS, axes):
        for arm in scale.arms:
            look = figures.LOOKS[arm]
            found = outcomes.select(rule=rule, arm=arm, learning_rate=rate)
            figures.over(sizes, found, lambda s: s.hidden[0], "final", arm, look)
            found = outcomes.select(rule=rule, arm=arm, hidden=(width,) * 3)
            figures.over(rates, found, lambda s: s.learning_rate, "final", arm, look)
        figures.finish(sizes, "units of each of 3 layers", title=f"{rule}, rate {rate:g}", log=True)
        figures.finish(rates, "learning rate", title=f"{rule}, 3x{width}", log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="fig5",
    title="Fig. 5: FA on EMNIST letters and DFA on Fashion-MNIST",
    paper={
        "dataset": None,
        "train_examples": None,
        "validation_examples": 10_000,
        "test_examples": None,
        "widths": (64, 128, 256, 512),
        "learning_rates": (0.001, 0.01, 0.05, 0.1),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 10,
    },
    reduced={"widths": (64, 256), "learning_rates": (0.001, 0.01, 0.1), "epochs": 6, "seeds": 5},
    quick={**LOOK, "widths": (64,), "learning_rates": (0.01, 0.1)},
    claims=(
        Claim(
            "Fig. 5a: FA, GRAPES is better at each size and rate", where=lambda s: s.rule == "FA"
        ),
        Claim("Fig. 5b: FA, GRAPES is faster (slowness)", "slowness", lambda s: s.rule == "FA"),
        Claim(
            "Fig. 5c: DFA, GRAPES is better at each size and rate", where=lambda s: s.rule == "DFA"
        ),
        Claim("Fig. 5d: DFA, GRAPES is faster (slowness)", "slowness", lambda s: s.rule == "DFA"),
    ),
    runs=runs,
    tables=tables,
    figure=figure,
    note="The authors' code takes the balanced split of EMNIST, this is the split by letters. The "
    "layer sizes and learning rates are ours: the paper's text does not give them.",
)
