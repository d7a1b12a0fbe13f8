"""A convolutional and a recurrent network, which the paper's figures leave out."""

from examples.paper.outcomes import pivot
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def runs(scale):
    settings = vary(
        of_scale(scale),
        network=("convolutional", "recurrent"),
        learning_rate=scale.learning_rates,
        seed=range(scale.seeds),
    )
    return design(settings, scale.arms, ("local",))


def tables(outcomes, scale):
    return [
        (
            f"{network} network",
            pivot(
                outcomes.select(network=network),
                "arm",
                lambda s: s.arm,
                lambda s: f"rate {s.learning_rate:g}",
                "final",
            ),
        )
        for network in ("convolutional", "recurrent")
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    picture, axes = figures.new(1, 2)
    for network, panel in zip(("convolutional", "recurrent"), axes[0]):
        for arm in scale.arms:
            found = outcomes.select(network=network, arm=arm)
            figures.over(panel, found, lambda s: s.learning_rate, "final", arm, figures.LOOKS[arm])
        figures.finish(panel, "learning rate", title=network, log=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="other_networks",
    title="A convolutional network and an LSTM, local version, SGD, Fashion-MNIST",
    paper={
        **MNIST,
        "dataset": "fashion_mnist",
        "learning_rates": (0.01, 0.03, 0.1, 0.3),
        "arms": tuple(ARMS),
        "epochs": 50,
        "seeds": 5,
    },
    reduced={
        "train_examples": 10_000,
        "test_examples": 5000,
        "learning_rates": (0.03, 0.1),
        "epochs": 5,
    },
    quick={**LOOK, "learning_rates": (0.1,)},
    runs=runs,
    tables=tables,
    figure=figure,
    claims=(
        Claim(
            "Convolutional network: GRAPES is better at each rate",
            where=lambda s: s.network == "convolutional",
        ),
        Claim("LSTM: GRAPES is better at each rate", where=lambda s: s.network == "recurrent"),
    ),
    full="whole",
    note="The paper has no such networks: all settings are ours. Every node is modulated in the "
    "update of its weights, so that each gate of an LSTM's cell has a factor of its own.",
)
