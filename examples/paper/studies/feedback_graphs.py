"""Feedback rules where the paper has none: a residual network and spiking units."""

import dataclasses

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, Settings, design, vary
from examples.paper.study import Claim, Study

# Network to its data set.
DATASETS = {"residual": "cifar10", "SNU": "mnist"}


def runs(scale):
    base = Settings(
        train_examples=scale.train_examples,
        validation_examples=scale.validation_examples,
        test_examples=scale.test_examples,
        epochs=scale.epochs,
    )
    residual = dataclasses.replace(
        base, dataset=DATASETS["residual"], network="residual", filters=scale.filters
    )
    spiking = dataclasses.replace(
        base,
        dataset=DATASETS["SNU"],
        network="SNU",
        hidden=(scale.width,) * 3,
        reset="soft",
        test_steps=scale.test_steps,
        batch_size=15,
    )
    settings = [
        *vary(residual, learning_rate=scale.learning_rates),
        *vary(spiking, learning_rate=scale.spiking_rates),
    ]
    seeded = [
        run for one in settings for run in vary(one, rule=scale.rules, seed=range(scale.seeds))
    ]
    return design(seeded, scale.arms)


def tables(outcomes, scale):
    return [
        (
            f"{network}, {dataset}",
            pivot(
                outcomes.select(network=network),
                "rule, rate",
                lambda s: f"{s.rule}, {s.learning_rate:g}",
                lambda s: s.arm,
                "final",
            ),
        )
        for network, dataset in DATASETS.items()
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, len(DATASETS))
    for (network, dataset), panel in zip(DATASETS.items(), axes[0]):
        for arm in scale.arms:
            found = [
                max(of_rule, key=lambda o: sum(o.values("final")) / len(o.values("final")))
                for rule in scale.rules
                if (of_rule := outcomes.select(network=network, rule=rule, arm=arm))
            ]
            figures.points(panel, found, list(scale.rules), lambda s: s.rule, "final", arm)
        panel.set_xticks(range(1, len(scale.rules) + 1), scale.rules)
        figures.finish(panel, "rule", title=f"{network}, {dataset}")
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="feedback_graphs",
    title="BP, FA, DFA and sign-concordant feedback on a residual network and on spiking units",
    paper={
        "train_examples": None,
        "validation_examples": 10_000,
        "test_examples": None,
        "rules": ("BP", "FA", "DFA", "SF"),
        "filters": 64,
        "width": 256,
        "test_steps": 300,
        "learning_rates": (0.001, 0.01, 0.1),
        "spiking_rates": (0.01, 0.1),
        "arms": tuple(ARMS),
        "epochs": 100,
        "seeds": 5,
    },
    reduced={
        "train_examples": 10_000,
        "validation_examples": 2000,
        "test_examples": 2000,
        "filters": 8,
        "test_steps": 100,
        "learning_rates": (0.01,),
        "spiking_rates": (0.1,),
        "epochs": 3,
    },
    quick={
        "train_examples": 300,
        "validation_examples": 100,
        "test_examples": 100,
        "rules": ("DFA",),
        "filters": 2,
        "width": 16,
        "test_steps": 20,
        "learning_rates": (0.01,),
        "spiking_rates": (0.1,),
        "epochs": 1,
        "seeds": 1,
    },
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim(
            "Residual network: GRAPES is better by each rule and at each rate",
            where=lambda s: s.network == "residual",
        ),
        Claim(
            "Spiking units: GRAPES is better by each rule and at each rate",
            where=lambda s: s.network == "SNU",
        ),
    ),
    full="whole",
    note="The papers have no such runs: all settings are ours. The residual network is that of "
    "Table 1. SF is sign-concordant "
    "feedback with uniform magnitudes. The figure shows each arm at its best rate.",
)
