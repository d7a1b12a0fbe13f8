"""Records put together by configuration: what the tables and figures show."""

import dataclasses
import statistics

from examples.paper.settings import ARMS

# What the paper reads from a run.
METRICS = {
    "final": "mean test accuracy of the last tenth of the epochs, ten at most, in percent",
    "best": "test accuracy of the epoch that is best in validation, in percent",
    "validation": "as the final test accuracy, on the validation images",
    "slowness": "epochs to half of the largest test accuracy, by the plateau equation fitted to "
    "the first 100 epochs; below 1 it is read off the fit ahead of the first measurement, and "
    "says no more than within the first epoch",
    "average": "test accuracy on all tasks after the last of them, in percent",
    "past": "test accuracy on the earlier tasks after the last task, in percent",
    "future": "test accuracy on the tasks to come, mean over the tasks learned, in percent",
    "first": "test accuracy on a task after its first epoch, mean over the tasks, in percent",
    "forgetting": "loss of accuracy on the earlier tasks since their best, in percent",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The runs of one configuration, over its seeds.

    Args:
        settings: `Settings`, without seed.
        records: List of dicts.
        seeds: List of the seed of each.
    """

    settings: object
    records: list
    seeds: list

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

    def value(self, seed, metric):
        """The number of the run of a seed, `None` if it has none."""
        return self._value(self.records[self.seeds.index(seed)], metric)

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
            return _slowness(curve[:100])
        if metric == "first":
            starts = curve[:: self.settings.epochs]
            return 100 * statistics.fmean(starts) if len(starts) == self.settings.tasks else None
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
    return float(statistics.fmean(continual.future_accuracy(matrix)[:-1]))


class Outcomes:
    """All outcomes of a study.

    Args:
        runs: List of the `Settings` of the study.
        records: Dict of `Settings` to record, as `Records.load` gives it; others are passed over.
    """

    def __init__(self, runs, records):
        by_configuration = {}
        for settings in runs:
            entry = by_configuration.setdefault(settings.configuration, {})
            if settings in records:
                entry[settings.seed] = records[settings]
        self._found = {
            configuration: Outcome(configuration, list(entry.values()), list(entry))
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


# Of which less is better.
SMALL = ("slowness", "forgetting")


def difference(first, second, metric):
    """How much better an outcome is than another, over the seeds that both have.

    Args:
        first: `Outcome`.
        second: `Outcome`.
        metric: String, a key of `METRICS`.

    Returns:
        A `keras_grapes.comparison.Difference`, or `None` where no pair has the metric. A run that
        diverged counts with the chance to which it fell.
    """
    from keras_grapes.comparison import paired_difference

    pairs = []
    for seed in sorted(set(first.seeds) & set(second.seeds)):
        values = [outcome.value(seed, metric) for outcome in (first, second)]
        if None not in values:
            pairs.append(values)
    if not pairs:
        return None
    ours, others = zip(*pairs)
    return paired_difference(others, ours) if metric in SMALL else paired_difference(ours, others)


def against(outcomes, metric, arm="GRAPES", baseline="plain"):
    """Lists an arm's outcomes, each with its difference to the baseline of otherwise equal runs.

    Args:
        outcomes: `Outcomes` or list of `Outcome`s.
        metric: String, a key of `METRICS`.
        arm: String.
        baseline: String.

    Returns:
        List of pairs of `Settings` and `Difference`.
    """

    def others(settings):
        # Plain training has no versions.
        return dataclasses.replace(settings, arm="plain", version="propagating")

    outcomes = [o for o in outcomes if not o.settings.raised_rate]
    plain = ARMS[baseline] is None
    found = {}
    for outcome in outcomes:
        if outcome.settings.arm == baseline:
            found[others(outcome.settings), plain or outcome.settings.version] = outcome
    pairs = []
    for outcome in outcomes:
        if outcome.settings.arm == arm:
            key = others(outcome.settings), plain or outcome.settings.version
            if key in found:
                pairs.append((outcome.settings, difference(outcome, found[key], metric)))
    return [(settings, found) for settings, found in pairs if found is not None]


PAIRS = (
    ("GRAPES", "plain"),
    ("GRAPES", "mean only"),
    ("mean only", "plain"),
    ("pattern only", "plain"),
)
# Fewer runs decide nothing, whatever their interval.
MIN_PAIRS = 5


def verdict(differences):
    """What paired differences say of a claim that all of them are above 0.

    Args:
        differences: List of `keras_grapes.comparison.Difference`s.

    Returns:
        `"holds"`, `"does not hold"` if one of them does not, or `"not decided"`.
    """
    from keras_grapes.comparison.statistics import VERDICTS

    holds, fails, open_ = VERDICTS
    found = {d.verdict if d.n >= MIN_PAIRS else open_ for d in differences}
    if fails in found:
        return fails
    return holds if found == {holds} else open_


def pair_table(outcomes, metric):
    """A Markdown table of paired differences, with 95 % confidence intervals and verdicts.

    Args:
        outcomes: `Outcomes` or list of `Outcome`s.
        metric: String, a key of `METRICS`.

    Returns:
        The table; empty where there are no pairs.
    """
    label = labels(outcomes)
    cells = {
        (label(settings), f"{arm} - {baseline}"): _decided(found)
        for arm, baseline in PAIRS
        for settings, found in against(outcomes, metric, arm, baseline)
    }
    return _grid("", cells) if cells else ""


def _decided(found):
    return f"{found}: {verdict([found])}" if found.n >= MIN_PAIRS else str(found)


_NOT_NAMED = ("arm", "seed", "raised_rate", "record")


def labels(outcomes):
    """Returns a function from settings to a text that tells them from those of other outcomes.

    The arm is left out, and so is the version of plain training, which has none.
    """
    every = [outcome.settings for outcome in outcomes]
    modulated = [s for s in every if ARMS[s.arm] is not None]
    names = [f.name for f in dataclasses.fields(every[0]) if f.name not in _NOT_NAMED]
    varied = [n for n in names if len({getattr(s, n) for s in modulated or every}) > 1]

    def label(settings):
        return ", ".join(setting(settings, name) for name in varied) or "all"

    return label


def setting(settings, name):
    """A setting in words."""
    value = getattr(settings, name)
    if name == "hidden":
        return settings.title
    if isinstance(value, tuple):
        return f"{name} {' to '.join(f'{v:g}' for v in value)}"
    text = f"{value:g}" if isinstance(value, float) else str("all" if value is None else value)
    if name == "deformation":
        return f"{text} deformation" if text else "no deformation"
    bare = ("dataset", "network", "rule", "version", "optimizer", "output", "activation")
    return text if name in bare else f"{name.replace('_', ' ')} {text}"


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
    return _grid(corner, cells)


def _grid(corner, cells):
    """A Markdown table of a dict from pairs of row and column."""
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
