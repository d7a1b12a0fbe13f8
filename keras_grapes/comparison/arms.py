"""The arms of a comparison: what each does to a fresh model and its optimizer."""

import keras

from keras_grapes.models.propagation import propagate
from keras_grapes.modulation import Modulation
from keras_grapes.optimizers.grapes import Grapes

__all__ = []

# The 2 x 2 design: the raised mean of the factors and their pattern over the nodes, both, neither.
ARMS = {
    "plain": None,
    "GRAPES": Modulation(),
    "mean only": Modulation(granularity="layer"),
    "pattern only": Modulation(unit_mean=True),
}
METHODS = ("propagate", "optimizer")


def named(arms):
    """Returns the arms as a dict of names.

    Raises:
        ValueError: If there are none, or a name is not one of `ARMS`.
        TypeError: If an arm is nothing that trains a model.
    """
    if arms is None:
        return dict(ARMS)
    if isinstance(arms, str):
        arms = (arms,)
    if not isinstance(arms, (dict, list, tuple)):
        raise TypeError(
            f"`arms` must be a tuple of names of {tuple(ARMS)}, or a dict of your own. Received: "
            f"arms={arms!r}"
        )
    if not isinstance(arms, dict):
        unknown = [name for name in arms if name not in ARMS]
        if unknown:
            raise ValueError(
                f"`arms` must have names of {tuple(ARMS)}, or be a dict of your own. Received: "
                f"arms={arms!r}"
            )
        arms = {name: ARMS[name] for name in arms}
    if not arms:
        raise ValueError(f"`arms` must have one arm at least. Received: arms={arms!r}")
    for name, arm in arms.items():
        if not isinstance(name, str):
            raise TypeError(f"The names of `arms` must be strings. Received: {name!r}")
        if not (arm is None or isinstance(arm, Modulation) or callable(arm)):
            raise TypeError(
                "An arm must be a `keras_grapes.Modulation`, `None` for plain training, or a "
                f"function of a model and an optimizer. Received: arms[{name!r}]={arm!r}"
            )
    return dict(arms)


def check_method(method):
    if not callable(method) and method not in METHODS:
        raise ValueError(
            f"`method` must be one of {METHODS}, or a feedback model such as "
            f"`keras_grapes.DirectFeedbackAlignment`. Received: method={method!r}"
        )


def apply(arm, method, model, optimizer):
    """Returns the model that an arm trains and its optimizer.

    Args:
        arm: A value of the dict that `named` returns.
        method: See `keras_grapes.compare`.
        model: `keras.Model`, built.
        optimizer: `keras.optimizers.Optimizer`, fresh.
    """
    if isinstance(arm, Modulation) or arm is None:
        if method not in METHODS:
            return method(model, modulation=arm), optimizer
        if arm is None:
            return model, optimizer
        if method == "propagate":
            return propagate(model, arm), optimizer
        return model, Grapes(optimizer, model=model, modulation=arm)
    made = arm(model, optimizer)
    made = made if isinstance(made, tuple) else (made, optimizer)
    if len(made) != 2 or not isinstance(made[0], keras.Model):
        raise TypeError(
            "The function of an arm must return a `keras.Model`, or a pair of model and "
            f"optimizer. Received: {made!r}"
        )
    return made
