"""Records put together by configuration: what the tables and figures show."""

import dataclasses
import statistics

from examples.paper.settings import ARMS

# How the paper takes a number from a curve of test accuracies.
METRICS = {
    "final": "mean test accuracy of the last tenth of the epochs, ten at most",
    "best": "test accuracy of the best epoch",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The runs of one configuration, over its seeds.

    Args:
        settings: `Settings`, without seed.
        records: List of dicts.
    """

    settings: object
    records: list

    @property
    def curves(self):
        """Test accuracies, a list per run."""
        return [r["epochs"]["test_accuracy"] for r in self.records]

    @property
    def diverged(self):
        """How many runs ended with a loss that is not a number."""
        return sum(r["diverged"] for r in self.records)

    def values(self, metric):
        """A list with one number per run, by a key of `METRICS`."""
        if metric == "best":
            return [max(curve) for curve in self.curves]
        last = max(1, min(10, self.settings.epochs // 10))
        return [statistics.fmean(curve[-last:]) for curve in self.curves]


class Outcomes:
    """All outcomes of a study.

    Args:
        runs: List of the `Settings` of the study.
        records: Dict of `Settings` to record, as `Records.load` gives it; others are passed over.
    """

    def __init__(self, runs, records):
        by_configuration = {}
        for settings in runs:
            entry = by_configuration.setdefault(settings.configuration, [])
            if settings in records:
                entry.append(records[settings])
        self._found = {
            configuration: Outcome(configuration, entry)
            for configuration, entry in by_configuration.items()
            if entry
        }

    def __iter__(self):
        return iter(self._found.values())

    def select(self, **wanted):
        """Lists the outcomes whose settings have the values, in the order of the study."""
        return [o for o in self if all(getattr(o.settings, k) == v for k, v in wanted.items())]

    def arm(self, arm, version, **wanted):
        """As `select`; plain training, which has no versions, stands in each."""
        if ARMS[arm] is None:
            return self.select(arm=arm, **wanted)
        return self.select(arm=arm, version=version, **wanted)


def cell(outcome, metric):
    """`"97.31 ± 0.12 (3)"`: percent, mean and standard deviation, number of runs."""
    values = outcome.values(metric)
    text = f"{100 * statistics.fmean(values):.2f}"
    if len(values) > 1:
        text += f" ± {100 * statistics.stdev(values):.2f}"
    text += f" ({len(values)})"
    if outcome.diverged:
        text += f", {outcome.diverged} diverged"
    return text


def markdown(header, rows):
    """A Markdown table, its columns in line so that it reads as text too."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in cells
    )
