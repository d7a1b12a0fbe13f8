"""What a comparison has found: a table, a sentence and a picture, from its runs alone."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from keras_grapes.analysis import figures
from keras_grapes.comparison.statistics import Difference, paired_difference
from keras_grapes.types import Figure

__all__ = ["Comparison"]

_DESIGN = ("plain", "GRAPES", "mean only", "pattern only")


class Comparison:
    """The runs of `keras_grapes.compare`, and what follows from them.

    Args:
        runs: List of dicts with `"arm"`, `"learning_rate"`, `"seed"`, `"history"`, `"best_epoch"`,
            `"validation"`, `"test"` and `"diverged"`.
        arms: Tuple of the names of the arms; the others are compared with the first.
        metric: The measure, with `name`, `sign` and `scale`.
        settings: Dict of what all runs share.

    Attributes:
        runs: As given.
        learning_rates: Dict of the name of each arm to the learning rate that its validation has
            chosen, the largest mean over the seeds; `None` where all its runs diverged.

    Example: see `keras_grapes.compare`.
    """

    def __init__(
        self, runs: Sequence[dict], arms: Sequence[str], metric: Any, settings: Any
    ) -> None:
        self.runs = runs
        self.arms = arms
        self.metric = metric.name
        self.settings = settings
        self._metric = metric
        self._rates = sorted({run["learning_rate"] for run in runs})
        self._by = {(r["arm"], r["learning_rate"], r["seed"]): r for r in runs}
        self._seeds = list(dict.fromkeys(run["seed"] for run in runs))
        self.learning_rates = {arm: self._choose(arm) for arm in arms}

    def _choose(self, arm):
        scores = {rate: self._values(arm, rate, "validation") for rate in self._rates}
        sign = self._metric.sign
        means = {
            rate: sign * statistics.fmean(values)
            for rate, values in scores.items()
            if None not in values
        }
        return max(means, key=means.get) if means else None

    def _values(self, arm, rate, what="test"):
        """A number for each seed, in percent where it is a share; `None` for runs without one."""
        found = [self._by[arm, rate, seed] for seed in self._seeds]
        # A run that broke down later has no say for its rate, however good it was before.
        return [
            None if run["diverged"] or run[what] is None else self._metric.scale * run[what]
            for run in found
        ]

    def difference(
        self, arm: str, baseline: str | None = None, learning_rate: float | None = None
    ) -> Difference | None:
        """How much better an arm is than another on the test data, over the paired seeds.

        Args:
            arm: String.
            baseline: String. Defaults to `None`, the first arm.
            learning_rate: Float, one for both. Defaults to `None`, for each the one that its
                validation has chosen.

        Returns:
            A `keras_grapes.comparison.Difference`, in percentage points where the metric is an
            accuracy, and positive where the arm is better; `None` if a run of theirs diverged.

        Raises:
            ValueError: If there is no such arm or learning rate.
        """
        baseline = self.arms[0] if baseline is None else baseline
        for name, value in (("arm", arm), ("baseline", baseline)):
            if value not in self.arms:
                raise ValueError(f"`{name}` must be one of {self.arms}. Received: {name}={value!r}")
        if learning_rate is not None and learning_rate not in self._rates:
            raise ValueError(
                f"`learning_rate` must be one of {self._rates}. Received: "
                f"learning_rate={learning_rate!r}"
            )
        pair = []
        for name in (arm, baseline):
            rate = self.learning_rates[name] if learning_rate is None else learning_rate
            values = [None] if rate is None else self._values(name, rate)
            if None in values:
                return None
            pair.append([self._metric.sign * value for value in values])
        first, second = pair
        return paired_difference(first, second)

    def table(self, rates: str = "chosen") -> str:
        """Returns the test results as a Markdown table, with paired differences.

        Args:
            rates: String, `"chosen"` for each arm at the learning rate that its validation has
                chosen, or `"all"` for every arm at every rate. Defaults to `"chosen"`.

        Returns:
            String. `97.2 ± 0.1 (5)` is mean, standard deviation and number of runs; `+0.4 [+0.1,
            +0.7] (5)` is the mean of the paired differences, positive where the arm is better, its
            95 % confidence interval, and the number of pairs.
        """
        if rates not in ("chosen", "all"):
            raise ValueError(f'`rates` must be "chosen" or "all". Received: rates={rates!r}')
        others = [self.arms[0]]
        if "mean only" in self.arms and "mean only" not in others and len(self.arms) > 2:
            others.append("mean only")
        unit = "%" if self._metric.is_share else ""
        header = ["arm", "learning rate", f"test {self.metric}{f' ({unit})' if unit else ''}"]
        header += [f"minus {other}" for other in others]
        rows = []
        for arm in self.arms:
            for rate in [self.learning_rates[arm]] if rates == "chosen" else self._rates:
                if rate is None:
                    rows.append([arm, "all diverged", "", *("" for _ in others)])
                    continue
                at = None if rates == "chosen" else rate
                differences = [
                    "" if arm == o else str(self.difference(arm, o, at) or "diverged")
                    for o in others
                ]
                rows.append([arm, f"{rate:g}", _cell(self._values(arm, rate)), *differences])
        return _markdown(header, rows)

    def verdict(self) -> str:
        """Returns what the intervals decide, a sentence a line.

        For the four default arms: whether GRAPES beats plain training, each at its chosen rate, and
        whether the larger rate or the pattern explains the gain. For other arms: whether each beats
        the first one.
        """
        if set(_DESIGN[:3]) <= set(self.arms) and self.arms[0] == "plain":
            text = self._of_design()
        else:
            first = self.arms[0]
            text = "\n".join(
                f"{arm} against {first}: {_told(self.difference(arm), self._unit)}."
                for arm in self.arms[1:]
            )
            text = text or f"There is nothing to compare {first} with."
        return "\n".join([text, *self._cautions()])

    @property
    def _unit(self):
        return " points" if self._metric.is_share else ""

    def _of_design(self):
        gain = self.difference("GRAPES", "plain")
        mean = self.difference("mean only", "plain")
        pattern = self.difference("GRAPES", "mean only")
        if gain is None or mean is None or pattern is None:
            return "Not decided: an arm diverged at every learning rate."
        unit = self._unit
        if gain.verdict == "not decided":
            return (
                "Not decided whether GRAPES beats plain training: the difference is "
                f"{_amount(gain, unit)}."
            )
        if gain.verdict == "does not hold":
            return f"GRAPES is worse than plain training: {_amount(gain, unit)}."
        told = f"GRAPES beats plain training by {_amount(gain, unit)}"
        if pattern.verdict == "holds":
            return f"{told}, and the pattern adds {_amount(pattern, unit)}."
        # What the pattern may add at most is less than what the mean gains at least.
        if mean.verdict == "holds" and pattern.high < mean.low:
            return (
                f"{told}, and the gain is that of the larger rate: mean only gains "
                f"{_amount(mean, unit)}, and the pattern adds {_amount(pattern, unit)}."
            )
        return (
            f"{told}; not decided whether the pattern adds to it or the gain is that of the larger "
            f"rate: the pattern adds {_amount(pattern, unit)}."
        )

    def _cautions(self):
        found = []
        if len(self._seeds) < 2:
            found.append("One seed has no interval: give `seeds=5`.")
        elif len(self._seeds) < 5:
            found.append(f"{len(self._seeds)} seeds are few: give `seeds=5`.")
        if len(self._rates) == 1:
            if len(self.arms) > 1:
                found.append(
                    "At one learning rate GRAPES takes larger steps: give several, so that each "
                    "arm has its best."
                )
        else:
            for end, name, word in ((-1, "largest", "larger"), (0, "smallest", "smaller")):
                at_end = [a for a, rate in self.learning_rates.items() if rate == self._rates[end]]
                if at_end:
                    found.append(
                        f"{_listed(at_end)} did best at the {name} learning rate: give {word} ones."
                    )
        return found

    def plot(self) -> Figure:
        """Draws the test results over the learning rates, and the differences with intervals.

        Returns:
            The `matplotlib.figure.Figure`.
        """
        axes = figures.new_axes(1, 2, size=(5.2, 4))[0]
        over, differences = axes
        for number, arm in enumerate(self.arms):
            values = {rate: self._values(arm, rate) for rate in self._rates}
            values = {rate: v for rate, v in values.items() if None not in v}
            if not values:
                continue
            deviations = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values.values()]
            over.errorbar(
                list(values),
                [statistics.fmean(v) for v in values.values()],
                deviations,
                label=arm,
                capsize=3,
                **figures.style(number),
            )
        over.set_xscale("log")
        over.set_xticks(self._rates, [f"{rate:g}" for rate in self._rates])
        over.set_xticks([], minor=True)
        over.set_xlabel("learning rate")
        unit = " (%)" if self._metric.is_share else ""
        over.set_ylabel(f"test {self.metric}{unit}, mean ± standard deviation")
        over.legend()
        pairs = [(arm, self.arms[0]) for arm in self.arms[1:]]
        if {"GRAPES", "mean only"} <= set(self.arms[1:]):
            pairs.append(("GRAPES", "mean only"))
        found = [(f"{a} - {b}", self.difference(a, b)) for a, b in pairs]
        known = [(label, one) for label, one in found if one is not None]
        for place, (_, difference) in enumerate(known):
            half = difference.high - difference.mean
            differences.errorbar(
                difference.mean,
                place,
                xerr=half if math.isfinite(half) else None,
                marker="o",
                color="black",
                capsize=3,
            )
        differences.axvline(0, color="0.6", linewidth=1, zorder=0)
        differences.set_yticks(range(len(known)), [label for label, _ in known])
        differences.set_ylim(len(known) - 0.5, -0.5)
        differences.set_xlabel(
            f"better by{' (points)' if self._metric.is_share else ''}, 95 % interval"
        )
        differences.set_title("each at its chosen rate")
        return over.figure

    def __str__(self):
        return f"{self.table()}\n\n{self.verdict()}"


def _told(difference, unit):
    if difference is None:
        return "not decided, a run diverged at every learning rate"
    return f"{difference.verdict}, {_amount(difference, unit)}"


def _amount(difference, unit):
    if difference.n < 2:
        return f"{difference.mean:.3g}{unit} (one pair, no interval)"
    digits = _digits(difference)
    return (
        f"{difference.mean:.{digits}f}{unit} ({difference.low:.{digits}f} to "
        f"{difference.high:.{digits}f}, n = {difference.n})"
    )


def _digits(difference):
    """Enough to tell the ends of an interval apart."""
    width = difference.high - difference.low
    return 2 if width == 0 else max(1, min(8, 1 - math.floor(math.log10(width))))


def _cell(values):
    found = [value for value in values if value is not None]
    if not found:
        return "diverged"
    text = (
        f"{statistics.fmean(found):.4g}"
        if max(map(abs, found)) < 1
        else (f"{statistics.fmean(found):.2f}")
    )
    if len(found) > 1:
        deviation = statistics.stdev(found)
        text += f" ± {deviation:.2g}" if max(map(abs, found)) < 1 else f" ± {deviation:.2f}"
    text += f" ({len(found)})"
    broken = len(values) - len(found)
    return text + (f", {broken} diverged" if broken else "")


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _markdown(header, rows):
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in cells
    )
