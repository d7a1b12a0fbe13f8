"""Metrics of what spiking units put out over time."""

import keras
from keras import ops

from keras_grapes import losses

__all__ = ["SpikeAccuracy"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class SpikeAccuracy(keras.metrics.Mean):
    """Share of the samples whose class is the one that the output units decide for.

    They decide by the unit that spikes most often, by the one that spikes first, or by the one
    whose potential is the highest at any time. A sample for which no unit spikes is not decided,
    and counts as wrong. A mask over time that comes with the outputs is honoured.

    Args:
        by: String, `"count"`, `"first_spike"` or `"potential"`. Defaults to `"count"`.
        name: String. Defaults to `"spike_accuracy"`.
        dtype: String. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, spikes, or potentials.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If `by` is not one of the values above, or outputs are not over time.

    Example:

    >>> import keras_grapes as kg
    >>> metric = kg.metrics.SpikeAccuracy()
    >>> spikes = [[[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    >>> metric.update_state([0, 0], spikes)
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self, by: str = "count", name: str | None = "spike_accuracy", dtype: str | None = None
    ) -> None:
        if by not in ("count", "first_spike", "potential"):
            raise ValueError(
                f'`by` must be "count", "first_spike" or "potential". Received: by={by!r}'
            )
        super().__init__(name=name, dtype=dtype)
        self.by = by

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = getattr(y_pred, "_keras_mask", None)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if len(y_pred.shape) != 3:
            raise ValueError(
                "`SpikeAccuracy` takes the outputs of all time steps, (batch, time, units): "
                f"`return_sequences=True`. Received: y_pred of shape {tuple(y_pred.shape)}"
            )
        if mask is None:
            mask = ops.ones_like(y_pred[..., 0])
        mask = ops.cast(mask, y_pred.dtype)[..., None]
        if self.by == "potential":
            lowest = ops.min(y_pred, axis=1, keepdims=True)
            score = ops.max(ops.where(mask > 0, y_pred, lowest), axis=1)
            decided = True
        else:
            count = ops.sum(mask * y_pred, axis=1)
            decided = ops.any(count > 0, axis=-1)
            is_first = self.by == "first_spike"
            score = -losses.first_spike_time(y_pred, mask) if is_first else count
        classes = ops.argmax(losses.one_hot(y_true, y_pred), axis=-1)
        right = ops.logical_and(ops.equal(ops.argmax(score, axis=-1), classes), decided)
        super().update_state(ops.cast(right, self.dtype), sample_weight)

    def get_config(self) -> dict:
        return {"by": self.by, "name": self.name, "dtype": self.dtype}
