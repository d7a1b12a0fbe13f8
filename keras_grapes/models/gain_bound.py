"""How much larger the factors of stacked layers can make the error, by the graph of a model."""

import warnings

import numpy as np
from keras import ops

from keras_grapes import graph
from keras_grapes.layers.error_modulation import ErrorModulation, output_group
from keras_grapes.training.feedback import FeedbackModel

__all__ = []

# Its square is about what float32 holds: Adam and others keep squares of gradients.
_LARGE = 1e15


def bounds(model):
    """Maps ids of layers to a bound of their error gain; `None` for layers outside the graph.

    It is the largest product of mean factors on a way to the output. The error of a layer is the
    sum of what comes back on all paths, and each of them is at most so much larger.

    Returns:
        The mapping, and whether paths join anywhere, so that it is more than an estimate.
    """
    if isinstance(model, FeedbackModel) and model.modulation is not None:
        return {None: None}, False  # Its errors take other paths than the graph's.
    outputs = graph.output_calls(model)
    if outputs is None:
        return {None: 1.0 if _mean_factor(model) == 1.0 else None}, False
    below = {id(call): 1.0 for call in outputs}
    gains, joins = {}, False
    for call in graph.all_calls(outputs):
        gain = below[id(call)] * _mean_factor(call.layer)
        for layer in [call.layer, *graph.all_layers(call.layer)]:
            gains[id(layer)] = max(gain, gains.get(id(layer), 0.0))
        for source in call.inputs:
            before = below.get(id(source), gain)
            joins = joins or not np.isclose(before, gain)
            below[id(source)] = max(gain, before)
    return gains, joins


def warn_if_large(model, stacklevel):
    """Warns of a model whose gradients may become larger than an optimizer's state holds."""
    known = [gain for gain in bounds(model)[0].values() if gain is not None]
    largest = max(known, default=1.0)
    if largest > _LARGE:
        warnings.warn(
            f"The error gain of model '{model.name}' may reach {readable(largest)}: the factors of "
            "its layers multiply, and with a gain above 1e15 the squares of gradients leave "
            "float32, so that Adam and other optimizers end in NaN. "
            "`keras_grapes.error_gain(model, x, y)` measures the gain. "
            "`keras_grapes.Modulation(unit_mean=True)` keeps it near 1, and in "
            "`keras_grapes.Grapes(optimizer, model=model)` no factors multiply.",
            stacklevel=stacklevel + 1,
        )


def readable(gain):
    """A gain as text, `1.25` or `1.49e+13`; `unknown` for `None`."""
    if gain is None:
        return "unknown"
    return f"{gain:.2f}" if abs(gain) < 10_000 else f"{gain:.3g}"


def _mean_factor(layer):
    """Product of the mean factors of all the `ErrorModulation`s in a layer, itself included."""
    mean = 1.0
    for inner in [layer, *graph.all_layers(layer)]:
        if isinstance(inner, ErrorModulation):
            factor = output_group(inner.layer).factor(inner.modulation)
            mean *= float(ops.mean(factor))
    return mean
