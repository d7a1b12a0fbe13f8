"""Callback that records the modulation factors of every layer during training."""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_grapes.analysis import figures
from keras_grapes.callbacks import observation
from keras_grapes.checks import check_positive_int
from keras_grapes.models import factors
from keras_grapes.types import Axes, Figure

__all__ = ["ModulationHistory"]

STATISTICS = ("mean", "std", "min", "max", "at_floor")
UNITS = ("epoch", "batch")


class ModulationHistory(keras.callbacks.Callback):
    """Records how the modulation factors of every layer evolve.

    The callback records at the start of training, then after every `every` epochs or batches, and
    at the end. A record holds the mean, the standard deviation, the minimum and the maximum of the
    factors of each modulated layer, and the share of its nodes whose factor is the lower bound. The
    model may be trained with `keras_grapes.Grapes`, made by `keras_grapes.propagate`, or be a
    feedback model with a modulation. Between two records the callback costs nothing.

    After every epoch the numbers of the last record are added to the `logs` as
    `modulation/{layer}/{statistic}`, so that every callback that comes after this one in the list
    sees them, and so does the history that `fit` returns.

    A layer with several groups of nodes has one record per group, under the path of its kernel. A
    further call of `fit` continues the record of the same model; another model starts a new record.
    While a layer is frozen, its entries are NaN.

    Args:
        every: Int, the number of epochs or batches from record to record. Defaults to 1.
        unit: String, what `every` counts, `"epoch"` or `"batch"`. Defaults to `"epoch"`.
        histogram: String or path, a log directory of TensorBoard. At every record the histogram
            of each layer's factors is written there, as `modulation/{layer}`. Defaults to `None`,
            no histograms.
        log: Tuple of the statistics to add to the logs, of `"mean"`, `"std"`, `"min"`, `"max"`
            and `"at_floor"`. Defaults to all of them; `()` keeps the lines that `fit` prints short.

    Attributes:
        records: Array of the epochs or batches after which the callback recorded, counted from the
            first training that it saw; 0 is the start.
        history: Dict of the name of each layer to a dict of its statistics, each an array with an
            entry for each record. `at_floor` is a share, between 0 and 1.
        initial: Dict of the name of each layer to the array of its factors at its first record.
        latest: Dict likewise, at the last record, of the layers that are modulated then.

    Raises:
        ImportError: If `histogram` is given where TensorBoard is not installed.
        TypeError: If `histogram` is not a path.
        ValueError: If another argument is not one of the values above; or by `fit`, if the model
            is not built, or nothing in it is modulated.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Fig. 3.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = kg.propagate(keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="tanh", name="hidden"),
    ...     keras.layers.Dense(3),
    ... ]))
    >>> model.compile("sgd", "mse")
    >>> modulation = kg.callbacks.ModulationHistory()
    >>> x, y = keras.random.normal((32, 4), seed=0), keras.ops.zeros((32, 3))
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[modulation])
    >>> modulation.records
    array([0, 1, 2])
    >>> modulation.history["hidden"]["max"]
    array([2., 2., 2.])
    """

    def __init__(
        self,
        every: int = 1,
        unit: str = "epoch",
        histogram: str | os.PathLike | None = None,
        log: str | Sequence[str] = STATISTICS,
    ) -> None:
        super().__init__()
        if unit not in UNITS:
            raise ValueError(f"`unit` must be one of {UNITS}. Received: unit={unit!r}")
        log = (log,) if isinstance(log, str) else log
        if not isinstance(log, (tuple, list)) or any(name not in STATISTICS for name in log):
            raise ValueError(f"`log` must have names of {STATISTICS}. Received: log={log!r}")
        if not isinstance(histogram, (str, os.PathLike, type(None))):
            raise TypeError(
                f"`histogram` must be a path or None. Received: histogram={histogram!r}"
            )
        if histogram is not None and importlib.util.find_spec("tensorboard") is None:
            raise ImportError(
                "`histogram` writes for TensorBoard, which is not installed. Run: pip install "
                "tensorboard"
            )
        self.every = check_positive_int("every", every)
        self.unit = unit
        self.histogram = None if histogram is None else os.fspath(histogram)
        self.log = tuple(log)
        self._observed = None
        self._writer = None
        self._groups: dict = {}
        self._first_batch = 0
        self._begin()

    def _begin(self):
        self.initial = {}
        self.latest = {}
        self._count = 0
        self._records = []
        self._history = {key: {} for key in STATISTICS}

    @property
    def records(self):
        return np.array(self._records, "int64")

    @property
    def history(self):
        return {
            name: {key: np.array(self._history[key][name], "float64") for key in STATISTICS}
            for name in self.initial
        }

    def on_train_begin(self, logs=None):
        if not self.model.built or not self.model.weights:
            raise ValueError(
                "`ModulationHistory` records the factors before the first step, and model "
                f"'{self.model.name}' has no weights yet. Give it a `keras.Input`, call "
                "`model.build(input_shape)` or call it on data first."
            )
        modulated = [nodes for nodes in factors.node_groups(self.model) if nodes.is_modulated]
        if not modulated:
            raise ValueError(
                f"`ModulationHistory` found nothing that is modulated in model '{self.model.name}'"
                ": compile it with `keras_grapes.Grapes(optimizer, model=model)`, train "
                "`keras_grapes.propagate(model)`, or a feedback model with a modulation. "
                "`print(keras_grapes.summary(model))` tells what is modulated, or why not."
            )
        self._groups = dict(zip(factors.names(modulated), modulated))
        if self._observed is not self.model:
            self._observed = self.model
            self._begin()
        if not self._records:
            self._record()

    def on_train_batch_begin(self, batch, logs=None):
        self._first_batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if self.unit == "batch":
            # Several batches at once where the model has `steps_per_execution`; older versions of
            # Keras tell the first of them alone.
            steps = batch - self._first_batch + 1
            if steps == 1:
                left = (self.params.get("steps") or math.inf) - batch
                steps = int(min(self.model.steps_per_execution, left))
            self._advance(steps)

    def on_epoch_end(self, epoch, logs=None):
        if self.unit == "epoch":
            self._advance(1)
        if logs is not None:
            for name in self.latest:
                for key in self.log:
                    latest = self._history[key][name][-1]
                    logs[observation.log_name("modulation", name, key)] = latest

    def on_train_end(self, logs=None):
        if self._records[-1] != self._count:
            self._record()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _advance(self, steps):
        before = self._count
        self._count += steps
        if before // self.every != self._count // self.every:
            self._record()

    def _record(self):
        # On JAX the weights are back in the model, within an epoch, once a callback asks for it.
        _ = self.model
        self.latest = {name: nodes.factor() for name, nodes in self._groups.items()}
        for name, factors_now in self.latest.items():
            self.initial.setdefault(name, factors_now)
        measured = {key: {} for key in STATISTICS}
        for name, nodes in self._groups.items():
            values = self.latest[name].astype("float64")
            found = (values.mean(), values.std(), values.min(), values.max(), _at_floor(nodes))
            for key, value in zip(STATISTICS, found):
                measured[key][name] = float(value)
        for key, values in measured.items():
            observation.append(self._history[key], values, len(self._records))
        self._records.append(self._count)
        if self.histogram is not None:
            self._write_histograms()

    def _write_histograms(self):
        # Here, as TensorFlow is named for its summaries alone.
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.histogram)
        with self._writer.as_default():
            for name, values in self.latest.items():
                tf.summary.histogram(f"modulation/{name}", values, step=self._count)

    def plot(self, panel: str = "mean", axes: Axes | None = None) -> Figure:
        """Draws the factors as in the paper's Fig. 3.

        Args:
            panel: String, `"mean"` for the mean factor of each layer over the training, with one
                standard deviation as a band (Fig. 3a), or `"distribution"` for the distribution of
                the factors of each layer at the start and at the end (Fig. 3b). Defaults to
                `"mean"`.
            axes: `matplotlib.axes.Axes` to draw in. Defaults to `None`, a new figure.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ValueError: If `panel` is neither, or nothing was recorded.

        References:
            - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Fig. 3.
        """
        panels = {"mean": self._draw_means, "distribution": self._draw_distributions}
        if panel not in panels:
            raise ValueError(f"`panel` must be one of {tuple(panels)}. Received: panel={panel!r}")
        if not self._records:
            raise ValueError("`plot` has nothing to draw: pass this callback to `fit` first.")
        if axes is None:
            axes = figures.new_axes(size=(6.4, 4))[0, 0]
        panels[panel](axes)
        return axes.figure

    def _draw_means(self, axes):
        history = self.history
        for number, (name, statistics) in enumerate(history.items()):
            mean, std = statistics["mean"], statistics["std"]
            style = figures.sequence_style(number, len(history))
            axes.plot(self.records, mean, label=name, **style)
            axes.fill_between(
                self.records, mean - std, mean + std, color=style["color"], alpha=0.07, linewidth=0
            )
        axes.set_xlabel({"epoch": "epoch", "batch": "batches"}[self.unit])
        axes.set_ylabel("modulation factor, mean ± standard deviation")
        axes.margins(x=0)
        figures.whole_numbers(axes.xaxis)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")

    def _draw_distributions(self, axes):
        width = 0.38
        for values, side, color, label in (
            (self.initial, -1, "0.75", f"{self.unit} 0"),
            (self.latest, 1, "0.25", f"{self.unit} {self._count}"),
        ):
            bins = axes.boxplot(
                [values[name].ravel() for name in self.latest],
                positions=np.arange(len(self.latest)) + side * width / 2,
                widths=0.8 * width,
                patch_artist=True,
                manage_ticks=False,
                medianprops={"color": "white" if side > 0 else "black"},
                flierprops={"marker": ".", "markersize": 2, "markeredgecolor": color},
            )
            for box in bins["boxes"]:
                box.set(facecolor=color, label=label)
                label = None
        axes.set_xticks(range(len(self.latest)), self.latest, rotation=45, ha="right")
        axes.set_ylabel("modulation factor")
        axes.legend(title="nodes of each layer")


def _at_floor(nodes):
    """Share of the nodes whose factor is the lower bound, ahead of the controls' means."""
    plain = dataclasses.replace(nodes.modulation, granularity="node", unit_mean=False)
    values = keras.ops.convert_to_numpy(nodes.factor_by(plain))
    return np.mean(np.isclose(values, plain.bounds[0], rtol=1e-6, atol=0))
