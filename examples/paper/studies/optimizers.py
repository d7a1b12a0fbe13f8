"""Supplementary Tables 5 to 8: GRAPES on other optimizers, with BP, FA and DFA."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study

# Ours: the supplement, which has the paper's, was not available.
RATES = {"SGD": 0.01, "momentum": 0.001, "Nesterov": 0.001, "RMSprop": 0.0001, "Adam": 0.0001}


def runs(scale):
    base = of_scale(scale, hidden=(256,) * 3, activation="tanh", dropout=0.1)
    settings = [
        s
        for optimizer in scale.optimizers
        for s in vary(
            base, optimizer=[optimizer], learning_rate=[RATES[optimizer]], rule=scale.rules
        )
    ]
    if "Nokland" in scale.networks:
        settings += vary(
            of_scale(scale, hidden=(800, 800), activation="tanh", optimizer="RMSprop"),
            learning_rate=[0.0001],
            rule=scale.rules,
        )
    if "Frenkel" in scale.networks:
        frenkel = of_scale(scale, hidden=(1000,), activation="tanh", output="sigmoid")
        settings += vary(frenkel, optimizer=["Nesterov"], learning_rate=[0.0001], rule=scale.rules)
    return design([r for s in settings for r in vary(s, seed=range(scale.seeds))], scale.arms)


def network(settings):
    return f"{settings.title}, {settings.output}, {settings.optimizer}"


def tables(outcomes, scale):
    names = dict.fromkeys(network(o.settings) for o in outcomes)
    return [
        (
            name,
            pivot(
                [o for o in outcomes if network(o.settings) == name],
                "rule",
                lambda s: s.rule,
                lambda s: s.arm,
                "best",
            ),
        )
        for name in names
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    names = list(dict.fromkeys(network(o.settings) for o in outcomes))
    picture, axes = figures.new(-(-len(names) // 2), 2)
    for name, panel in zip(names, axes.flat):
        for arm in scale.arms:
            found = [o for o in outcomes.select(arm=arm) if network(o.settings) == name]
            figures.points(panel, found, scale.rules, lambda s: s.rule, "best", arm)
        panel.set_xticks(range(1, len(scale.rules) + 1), scale.rules)
        figures.finish(panel, "", title=name)
    for panel in axes.flat[len(names) :]:
        panel.set_axis_off()
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="optimizers",
    title="Supplementary Tables 5 to 8: GRAPES on other optimizers and rules, MNIST",
    paper={
        **MNIST,
        "optimizers": tuple(RATES),
        "rules": ("BP", "FA", "DFA"),
        "networks": ("3x256", "Nokland", "Frenkel"),
        "arms": tuple(ARMS),
        "epochs": 200,
        "seeds": 5,
    },
    reduced={"epochs": 4, "seeds": 5},
    quick={
        **LOOK,
        "train_examples": 1000,
        "optimizers": ("momentum", "Adam"),
        "rules": ("BP", "DFA"),
        "networks": ("3x256",),
    },
    runs=runs,
    tables=tables,
    figure=figure,
    metric="best",
    claims=(Claim("Suppl. Tables 5 to 8: GRAPES is better with each optimizer and rule", "best"),),
    note="Network 3x256 tanh with 10 % dropout and the learning rates are ours: the supplement was "
    "not available to us. Networks of Nokland 2016 and of Frenkel et al. 2021.",
)
