"""What a study is: its runs at each preset, its table and its figure."""

import dataclasses
import types

PRESETS = ("quick", "reduced", "long", "paper")


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a text says that a study can decide: that differences are above 0.

    Args:
        text: String, the claim in a few words.
        metric: String, a key of `outcomes.METRICS`.
        where: Function from `Settings` to whether they are meant. Defaults to `None`, all of the
            study.
        pairs: Function from `outcomes.Outcomes` and a metric to the `Difference`s that have to be
            above 0. Defaults to `None`, GRAPES against plain training, all else equal.
    """

    text: str
    metric: str = "final"
    where: object = None
    pairs: object = None

    def differences(self, outcomes):
        """Lists the differences of a study's outcomes that decide the claim."""
        from examples.paper.outcomes import against

        meant = [o for o in outcomes if self.where is None or self.where(o.settings)]
        if self.pairs is not None:
            return [found for found in self.pairs(meant, self.metric) if found is not None]
        return [found for _, found in against(meant, self.metric)]

    def against_mean_only(self, outcomes):
        """Likewise of GRAPES against its raised mean alone; none where `pairs` are given."""
        from examples.paper.outcomes import against

        if self.pairs is not None:
            return []
        meant = [o for o in outcomes if self.where is None or self.where(o.settings)]
        return [found for _, found in against(meant, self.metric, "GRAPES", "mean only")]


@dataclasses.dataclass(frozen=True)
class Study:
    """One figure or table of the paper.

    Args:
        name: String, what it is called on the command line.
        title: String, one line that says what it shows.
        paper: Dict, the scale of the paper: seeds, epochs, and the values that are gone through.
        reduced: Dict of what differs from it where minutes must do.
        quick: Dict likewise, for a look at whether it runs.
        long: Dict likewise, for a part of it at the paper's number of epochs; `None` where none
            is chosen.
        runs: Function from a scale to the list of `Settings`, each with every seed of the scale.
        tables: Function from `outcomes.Outcomes` and a scale to a list of pairs of heading and
            Markdown table.
        figure: Function from `outcomes.Outcomes` and a scale to a matplotlib figure.
        metric: String, a key of `outcomes.METRICS`, that the tables show; `None` where they show
            something else.
        note: String, what else a reader of the result must know.
        claims: Tuple of `Claim`s.
        full: String, what the scale `paper` is called in captions: `"paper"`, or another word
            where the paper has no such study.
    """

    name: str
    title: str
    paper: dict
    reduced: dict
    quick: dict
    runs: object
    tables: object
    figure: object
    metric: str = "final"
    note: str = ""
    long: dict | None = None
    claims: tuple = ()
    full: str = "paper"

    def scale(self, preset, **overrides):
        """Returns what a preset, and the options of the command line, choose.

        Raises:
            ValueError: If the study has no such choice.
        """
        changes = {} if preset == "paper" else getattr(self, preset)
        if changes is None:
            raise ValueError(f"--preset {preset}: {self.name} has none")
        chosen = {**self.paper, **changes}
        for name, value in overrides.items():
            if value is None:
                continue
            if name not in chosen:
                raise ValueError(f"--{name}: {self.name} has no choice of {name}")
            chosen[name] = value
        return types.SimpleNamespace(**chosen)

    def caption(self, preset, scale):
        """What the preset cuts from the settings of the paper, in a sentence."""
        cuts = [
            f"{name.replace('_', ' ')} {_text(value)} ({self.full}: {_text(self.paper[name])})"
            for name, value in vars(scale).items()
            if value != self.paper[name]
        ]
        cut = f"Cut: {'; '.join(cuts)}." if cuts else "Nothing cut."
        return f"Preset {preset}. {cut}{' ' + self.note if self.note else ''}"


def _text(value):
    if value is None:
        return "all"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


# What most studies share: the data, and how little of it a look takes.
MNIST = {
    "dataset": "mnist",
    "train_examples": None,
    "validation_examples": 10_000,
    "test_examples": None,
}
LOOK = {
    "train_examples": 2000,
    "validation_examples": 1000,
    "test_examples": 1000,
    "epochs": 1,
    "seeds": 1,
}
