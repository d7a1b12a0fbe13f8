"""Records put together by configuration: what the tables and figures show."""

import dataclasses
import statistics

from examples.paper.settings import ARMS

# What the paper reads from a run.
METRICS = {
    "final": "mean test accuracy of the last tenth of the epochs, ten at most, in percent",
    "best": "test accuracy of the epoch that is best in validation, in percent",
    "validation": "as the final test accuracy, on the validation images",
    "slowness": "epochs to half of the largest test accuracy, by the plateau equation",
    "average": "test accuracy on all tasks after the last of them, in percent",
    "past": "test accuracy on the earlier tasks after the last task, in percent",
    "future": "test accuracy on the task to come, mean over the tasks, in percent",
    "forgetting": "loss of accuracy on the earlier tasks since their best, in percent",
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
        """A list with one number per run that has it, by a key of `METRICS`."""
        found = [self._value(record, metric) for record in self.records]
        return [value for value in found if value is not None]

    def mean(self, metric):
        return statistics.fmean(self.values(metric))

    def _value(self, record, metric):
        curve = record["epochs"]["test_accuracy"]
        validation = record["epochs"].get("validation_accuracy")
        if metric == "validation":
            curve = validation or curve
        if metric == "best":
            chosen = validation or curve
            return 100 * curve[chosen.index(max(chosen))]
        if metric in ("final", "validation"):
            last = max(1, min(10, self.settings.epochs // 10))
            return 100 * statistics.fmean(curve[-last:])
        if metric == "slowness":
            return _slowness(curve)
        matrix = self.task_matrix(record)
        return None if matrix is None else 100 * _of_tasks(matrix, metric)

    def task_matrix(self, record):
        """Accuracies on every task (columns) after each task (rows); `None` if it broke off."""
        rows = record["tasks"][self.settings.epochs - 1 :: self.settings.epochs]
        return rows if len(rows) == self.settings.tasks else None


def _slowness(curve):
    from keras_grapes.analysis import fit_plateau

    try:
        return fit_plateau(curve, max_accuracy="observed").slowness
    except ValueError:  # Too short, or it has not learned.
        return None


def _of_tasks(matrix, metric):
    from keras_grapes.analysis import continual

    if metric == "average":
        return continual.average_accuracy(matrix)
    if metric == "forgetting":
        return continual.forgetting(matrix)
    if metric == "past":
        return float(continual.past_accuracy(matrix)[-1])
    return statistics.fmean(row[task + 1] for task, row in enumerate(matrix[:-1]))


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
    """`"97.31 ± 0.12 (3)"`: mean and standard deviation, number of runs."""
    values = outcome.values(metric)
    text = f"{statistics.fmean(values):.2f}" if values else "none"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.2f}"
    text += f" ({len(values)})"
    if outcome.diverged:
        text += f", {outcome.diverged} diverged"
    return text


def pivot(outcomes, corner, row_of, column_of, metric):
    """A Markdown table of a metric.

    Args:
        outcomes: List of `Outcome`s.
        corner: String, what the rows are.
        row_of: Function from settings to the label of the row.
        column_of: Likewise, of the column.
        metric: String, a key of `METRICS`.
    """
    cells = {(row_of(o.settings), column_of(o.settings)): cell(o, metric) for o in outcomes}
    rows, columns = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    return markdown(
        [corner, *columns],
        [[row, *(cells.get((row, column), "") for column in columns)] for row in rows],
    )


def metrics_table(labelled, corner, metrics):
    """A Markdown table with a row for each pair of label and `Outcome`, a column a metric."""
    return markdown(
        [corner, *metrics], [[label, *(cell(o, m) for m in metrics)] for label, o in labelled]
    )


def markdown(header, rows):
    """A Markdown table, its columns in line so that it reads as text too."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in cells
    )
