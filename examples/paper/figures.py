"""What the figures share: a canvas, the looks of the arms, curves over epochs and settings."""

import statistics
import textwrap

from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from examples import drawing

viridis = colormaps["viridis"]
# Okabe and Ito's colours; markers and dashes tell the arms apart in grey as well. The controls go
# around what they may coincide with.
_AROUND = {"markersize": 9, "fillstyle": "none"}
LOOKS = {
    "plain": {"color": "#000000", "marker": "o", "linestyle": ":", "markersize": 5},
    "GRAPES": {"color": "#0072B2", "marker": "^", "linestyle": "-", "markersize": 5},
    "mean only": {"color": "#E69F00", "marker": "s", "linestyle": "--", **_AROUND},
    "pattern only": {"color": "#009E73", "marker": "D", "linestyle": "-.", **_AROUND},
}
RAISED = {"color": "#CC79A7", "marker": "v", "linestyle": "--", "markersize": 5}


def new(rows, columns, **shared):
    """Returns a figure and its array of axes."""
    figure = drawing.new_figure((4.6 * columns, 3.6 * rows + 0.8))
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def save(figure, path, title="", caption=""):
    """Writes a figure with its title above and its caption below."""
    width = int(figure.get_size_inches()[0] * 10)
    if title:
        figure.suptitle("\n".join(textwrap.wrap(title, width)))
    if caption:
        figure.supxlabel("\n".join(textwrap.wrap(caption, int(1.7 * width))), fontsize="x-small")
    figure.savefig(path, dpi=120)


def band(axes, x, columns, label, look):
    """Draws the mean over runs, with the standard deviation around it.

    Args:
        axes: Matplotlib axes.
        x: List of numbers.
        columns: List of lists, for each `x` the values of all runs.
        label: String.
        look: Dict, a value of `LOOKS`.
    """
    mean = [statistics.fmean(c) for c in columns]
    deviation = [statistics.stdev(c) if len(c) > 1 else 0.0 for c in columns]
    many = len(x) > 15
    axes.plot(x, mean, label=label, **{**look, "marker": "" if many else look["marker"]})
    low, high = zip(*((m - d, m + d) for m, d in zip(mean, deviation)))
    axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def learning_curve(axes, outcome, label, look):
    """Draws test accuracy over epochs; runs that ended early count as long as they last."""
    longest = max(map(len, outcome.curves))
    columns = [
        [100 * curve[epoch] for curve in outcome.curves if epoch < len(curve)]
        for epoch in range(longest)
    ]
    band(axes, range(1, longest + 1), columns, label, look)


def plateau_fit(axes, outcome, look):
    """Draws the plateau equation fitted to each run, thin."""
    import numpy as np

    from keras_grapes.analysis import fit_plateau, plateau

    for curve in outcome.curves:
        epochs = np.linspace(0.2, len(curve), 100)
        try:
            fit = fit_plateau(curve, max_accuracy="observed")
        except ValueError:  # Too short, or it has not learned.
            continue
        axes.plot(epochs, 100 * plateau(epochs, *fit), color=look["color"], linewidth=0.5)


def shade(number, count):
    """The look of one of several of a kind: from dark to light, dashes taking turns."""
    dashes = ("-", "--", "-.", ":")
    return {"color": viridis(0.9 * number / max(1, count - 1)), "linestyle": dashes[number % 4]}


def over(axes, outcomes, x_of, metric, label, look):
    """Draws the metric of outcomes over one of their settings."""
    outcomes = [outcome for outcome in outcomes if outcome.values(metric)]
    if outcomes:
        columns = [outcome.values(metric) for outcome in outcomes]
        band(axes, [x_of(o.settings) for o in outcomes], columns, label, look)


def points(axes, outcomes, names, name_of, metric, arm):
    """Draws the metric of an arm over names, the arms side by side, with standard deviations.

    Args:
        axes: Matplotlib axes.
        outcomes: List of `Outcome`s of the arm.
        names: List of all names, in the order of the axis.
        name_of: Function from settings to its name.
        metric: String, a key of `outcomes.METRICS`.
        arm: String, a key of `LOOKS`.
    """
    shift = 0.15 * (list(LOOKS).index(arm) - (len(LOOKS) - 1) / 2)
    look = {**LOOKS[arm], "linestyle": ""}
    found = [(name_of(o.settings), o.values(metric)) for o in outcomes]
    axes.errorbar(
        [names.index(name) + 1 + shift for name, _ in found],
        [statistics.fmean(values) for _, values in found],
        [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in found],
        label=arm,
        **look,
    )


def finish(axes, x_label, y_label="test accuracy (%)", title="", log=False, whole=False):
    if not axes.has_data():  # Of a study that is not through.
        axes.set_axis_off()
        axes.set_title(f"{title}: nothing recorded yet", fontsize="medium")
        return
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if log and axes.lines:
        values = sorted({x for line in axes.lines for x in line.get_xdata()})
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{x:g}" for x in values])
        axes.set_xticks([], minor=True)
    if "%" in y_label:
        # The band of a standard deviation may reach further than a share can.
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2), min(high, 102))
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def legend(figure, axes):
    """One legend for all panels, with every label once."""
    found = {}
    for panel in axes.flat:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside right center", fontsize="small")
