"""The preprint's Fig. 5: BP, FA and DFA on four data sets."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, Settings, design, vary
from examples.paper.study import LOOK, Claim, Study


def runs(scale):
    base = Settings(
        train_examples=scale.train_examples,
        test_examples=scale.test_examples,
        hidden=(256, 256, 256),
        dropout=0.1,
        epochs=scale.epochs,
    )
    settings = vary(
        base,
        dataset=scale.datasets,
        validation_examples=[scale.validation_examples],
        rule=scale.rules,
        learning_rate=scale.learning_rates,
        seed=range(scale.seeds),
    )
    return design(settings, scale.arms)


def tables(outcomes, scale):
    return [
        (
            f"{dataset}, {metric}",
            pivot(
                outcomes.select(dataset=dataset),
                "rule, rate",
                lambda s: f"{s.rule}, {s.learning_rate:g}",
                lambda s: s.arm,
                metric,
            ),
        )
        for metric in ("final", "slowness")
        for dataset in scale.datasets
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(len(scale.datasets), len(scale.rules))
    for dataset, row in zip(scale.datasets, axes):
        for rule, panel in zip(scale.rules, row):
            for arm in scale.arms:
                found = outcomes.select(dataset=dataset, rule=rule, arm=arm)
                look = figures.LOOKS[arm]
                figures.over(panel, found, lambda s: s.learning_rate, "final", arm, look)
            figures.finish(panel, "learning rate", title=f"{rule}, {dataset}", log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="preprint_fig5",
    title="Preprint, Fig. 5: BP, FA and DFA on four data sets, 3x256 ReLU, 10 % dropout",
    paper={
        "datasets": ("mnist", "fashion_mnist", "emnist", "cifar10"),
        "train_examples": None,
        "validation_examples": 10_000,
        "test_examples": None,
        "rules": ("BP", "FA", "DFA"),
        "learning_rates": (0.001, 0.01, 0.1),
        "arms": tuple(ARMS),
        "epochs": 100,
        "seeds": 5,
    },
    reduced={
        "train_examples": 10_000,
        "test_examples": 5000,
        "learning_rates": (0.01,),
        "epochs": 5,
    },
    quick={**LOOK, "datasets": ("mnist", "cifar10"), "learning_rates": (0.01,)},
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim("Preprint, Fig. 5: GRAPES is better in all twelve"),
        Claim("Preprint, Fig. 5: GRAPES is faster in all twelve (slowness)", "slowness"),
    ),
    note="EMNIST is the split by letters. The learning rates are ours: the text does not give "
    "them.",
)
