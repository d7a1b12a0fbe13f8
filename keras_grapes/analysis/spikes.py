"""Plots of what spiking units do over time."""

from collections.abc import Sequence

import numpy as np

from keras_grapes.analysis import figures
from keras_grapes.analysis.recording import Recording
from keras_grapes.checks import check_number, is_int
from keras_grapes.types import Array, Axes, Figure

__all__ = ["layer_rates", "membrane_traces", "raster"]


def raster(
    spikes: Array, sample: int = 0, dt: float | None = None, axes: Axes | None = None
) -> Figure:
    """Draws the spikes of units over time, a row for each unit.

    Args:
        spikes: Array `(time, units)` or `(batch, time, ..., units)`, or a
            `keras_grapes.analysis.Recording`; or a dict of names to these, as
            `keras_grapes.analysis.record` returns it, for one panel per layer. Every nonzero value
            is a spike; each position of a convolution has its own row.
        sample: Int, which sample of a batch to draw. Defaults to 0.
        dt: Float, the seconds of a time step, for an axis in milliseconds. Defaults to `None`, an
            axis of steps.
        axes: `matplotlib.axes.Axes` to draw into, for one layer alone. Defaults to `None`, a new
            figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        TypeError: If `spikes` is not of numbers.
        ValueError: If it has no axis of time, no such sample or no layers, or `dt` is not above 0.

    Example:

    >>> import numpy as np
    >>> import keras_grapes as kg
    >>> spikes = np.random.default_rng(0).random((50, 20)) < 0.1
    >>> figure = kg.analysis.raster(spikes)
    """
    _check_dt(dt)
    layers = spikes if isinstance(spikes, dict) else {None: spikes}
    panels = _panels(layers, axes, height=2.2)
    for panel, (name, values) in zip(panels, layers.items()):
        values, mask = _sample(values, "spikes", sample)
        times, units = np.nonzero(values * mask[:, None])
        panel.scatter(_time(times, dt), units, s=14, marker="|", linewidths=1.0, color="C0")
        panel.set_xlim(_time(np.array([-0.5, len(values) - 0.5]), dt))
        panel.set_ylim(-0.5, values.shape[1] - 0.5)
        panel.set_ylabel("unit")
        figures.whole_numbers(panel.yaxis)
        if name is not None:
            panel.set_title(name)
    _label_time(panels[-1], dt)
    return panels[0].figure


def membrane_traces(
    recording: Recording,
    units: Sequence[int] | None = None,
    sample: int = 0,
    dt: float | None = None,
) -> Figure:
    """Draws the potentials of units over time, with their thresholds and spikes.

    There is one panel per unit: the potential that is compared with the threshold, the threshold as
    a dashed line, and a mark above each spike.

    Args:
        recording: A `keras_grapes.analysis.Recording`, as `keras_grapes.analysis.record` returns
            one for each layer; or an array of potentials, `(time, units)` or
            `(batch, time, ..., units)`.
        units: List of ints, which units to draw. Defaults to `None`, the first five.
        sample: Int, which sample of a batch to draw. Defaults to 0.
        dt: Float, the seconds of a time step, for an axis in milliseconds. Defaults to `None`, an
            axis of steps.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        TypeError: If `recording` is not of numbers.
        ValueError: If it has no axis of time, no such sample or units, or `dt` is not above 0.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([keras.Input((20, 8)), kg.SNU(16, name="hidden")])
    >>> recordings = kg.analysis.record(model, keras.ops.ones((1, 20, 8)))
    >>> figure = kg.analysis.membrane_traces(recordings["hidden"], units=[0, 3])
    """
    _check_dt(dt)
    potentials, mask = _sample(recording, "potentials", sample)
    count = potentials.shape[1]
    units = range(min(count, 5)) if units is None else list(units)
    for unit in units:
        if not is_int(unit) or not 0 <= unit < count:
            raise ValueError(f"`units` must be ints from 0 to {count - 1}. Received: {unit!r}")
    if not units:
        raise ValueError("`units` must have one unit at least. Received: none")
    spikes = threshold = None
    if isinstance(recording, Recording) and recording.threshold is not None:
        spikes = _sample(recording, "spikes", sample)[0]
        threshold = recording.threshold
        if threshold.ndim > 1:
            threshold = _sample(recording, "threshold", sample)[0]
        else:
            # A threshold for each filter, the last axis of the units.
            threshold = np.broadcast_to(np.resize(threshold, count), potentials.shape)
    panels = figures.new_axes(len(units), 1, size=(6.4, 1.6), sharex=True)[:, 0]
    steps = np.arange(len(potentials))
    for panel, unit in zip(panels, units):
        panel.plot(_time(steps, dt), np.where(mask, potentials[:, unit], np.nan), color="C0")
        if threshold is not None:
            panel.plot(
                _time(steps, dt), threshold[:, unit], color="0.5", linestyle="--", linewidth=1
            )
            fired = steps[(spikes[:, unit] != 0) & mask]
            top = np.full(len(fired), 0.94)
            place = panel.get_xaxis_transform()
            panel.plot(_time(fired, dt), top, "|", color="C1", markersize=8, transform=place)
        panel.set_ylabel(f"unit {unit}")
    panels[0].set_title("potential", loc="left")
    _label_time(panels[-1], dt)
    return panels[0].figure


def layer_rates(recordings: dict[str, Recording], axes: Axes | None = None) -> Figure:
    """Draws the firing rates of the units of layers, one layer beside the other.

    Each layer has a box from the first to the third quartile of its units, with a line at the
    median, whiskers to the lowest and the highest rate, and a mark at the mean.

    Args:
        recordings: Dict of names to `keras_grapes.analysis.Recording`s, or to arrays of the rates
            of units, `(units,)`, such as `keras_grapes.callbacks.FiringRate.unit_rates`.
        axes: `matplotlib.axes.Axes` to draw into. Defaults to `None`, a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        TypeError: If `recordings` is not a dict.
        ValueError: If it is empty.

    Example:

    >>> import numpy as np
    >>> import keras_grapes as kg
    >>> rates = {"first": np.array([0.1, 0.3, 0.2]), "second": np.array([0.0, 0.05])}
    >>> figure = kg.analysis.layer_rates(rates)
    """
    if not isinstance(recordings, dict):
        raise TypeError(
            "`recordings` must be a dict of names to recordings. Received: an object of type "
            f"{type(recordings).__name__}"
        )
    if not recordings:
        raise ValueError("`recordings` must have one layer at least. Received: none")
    rates = [
        np.ravel(values.rates if isinstance(values, Recording) else values)
        for values in recordings.values()
    ]
    if axes is None:
        axes = figures.new_axes(size=(max(4, 1.1 * len(rates) + 1), 3.5))[0, 0]
    positions = np.arange(1, len(rates) + 1)
    axes.boxplot(rates, positions=positions, whis=(0, 100), widths=0.5)
    means = [np.mean(values) for values in rates]
    axes.plot(positions, means, "D", color="C1", markersize=4, label="mean")
    axes.set_xticks(positions, recordings)
    axes.set_ylabel("spikes per step")
    axes.set_ylim(bottom=min(0.0, *(values.min() for values in rates)))
    axes.legend(fontsize="small")
    return axes.figure


def _panels(layers, axes, height):
    if not layers:
        raise ValueError("There must be one layer at least. Received: none")
    if axes is None:
        return figures.new_axes(len(layers), 1, size=(6.4, height), sharex=True)[:, 0]
    if len(layers) > 1:
        raise ValueError(f"`axes` are for one layer. Received: {len(layers)} layers")
    return [axes]


def _sample(values, kind, sample):
    """Returns an array `(time, units)` of one sample, and which steps count."""
    mask = None
    if isinstance(values, Recording):
        mask = values.mask
        values = getattr(values, kind)
    values = np.asarray(values)
    if values.dtype.kind not in "bifu":
        raise TypeError(f"The {kind} must be numbers. Received: an array of {values.dtype}")
    if values.ndim < 2:
        raise ValueError(
            f"The {kind} must have the axes (time, units) or (batch, time, ..., units). Received: "
            f"an array of shape {values.shape}"
        )
    if values.ndim > 2:
        if not is_int(sample) or not -len(values) <= sample < len(values):
            raise ValueError(
                f"`sample` must be one of the {len(values)} samples. Received: sample={sample!r}"
            )
        values = values[sample]
        mask = None if mask is None else mask[sample]
    mask = np.ones(len(values), "bool") if mask is None else mask
    return values.reshape(len(values), -1), mask


def _check_dt(dt):
    if dt is not None:
        check_number("dt", dt, above=0, meaning=" of seconds")


def _time(steps, dt):
    return steps if dt is None else 1000 * dt * steps


def _label_time(axes, dt):
    axes.set_xlabel("time step" if dt is None else "time (ms)")
    if dt is None:
        figures.whole_numbers(axes.xaxis)
