"""What an optimizer must be like for `Grapes` to modulate it."""

import keras

from keras_grapes import backend

__all__ = []


def get_inner_optimizer(identifier):
    """Returns the optimizer that an argument `inner_optimizer=` stands for.

    Raises:
        TypeError: If it is no optimizer, name or config.
        ValueError: If it is a wrapper of optimizers or names none.
    """
    inner = identifier
    if isinstance(identifier, (str, dict)):
        try:
            inner = keras.optimizers.get(identifier)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "`inner_optimizer` must name an optimizer of Keras, such as 'adam', or be its "
                f"config. Received: inner_optimizer={identifier!r}"
            ) from error
    if not isinstance(inner, keras.optimizers.Optimizer):
        hint = " Pass an instance: write `()` after it." if isinstance(inner, type) else ""
        raise TypeError(
            "`inner_optimizer` must be a `keras.optimizers.Optimizer`, its name or its config."
            f"{hint} Received: inner_optimizer={identifier!r} of type {type(identifier).__name__}"
        )
    if _is_wrapper(inner):
        # Its own `update_step` is not the one that acts, so that the factor would be ignored.
        name = type(inner).__name__
        raise ValueError(
            f"`inner_optimizer` must not be a wrapper itself. Received: a `{name}`. Wrap the other "
            f"way round, so that `{name}` holds `Grapes(optimizer)`. Under mixed precision "
            "`model.compile` adds its `LossScaleOptimizer` by itself."
        )
    return inner


def is_kerass_own(optimizer):
    """Whether an optimizer is of one of Keras's own classes."""
    return type(optimizer).__module__.split(".")[0] == "keras"


def check_rate_is_used(update_step, variable, name):
    """Raises a `ValueError` if an `update_step` ignores the learning rate that it is given."""
    gradient = keras.ops.zeros(variable.shape, variable.dtype)

    def step(learning_rate):
        update_step(gradient, variable, learning_rate)

    if not backend.changes_state_by(step, variable.shape, variable.dtype):
        raise ValueError(
            f"`Grapes` cannot modulate the optimizer `{name}`: its `update_step` does not use its "
            "argument `learning_rate`, in which each node has a rate of its own. Use that argument "
            "in place of `self.learning_rate`."
        )


def refuse_unreached(name):
    """Raises the `ValueError` for an optimizer that updates kernels past its `update_step`."""
    raise ValueError(
        f"`Grapes` cannot modulate the optimizer `{name}`: it steps without calling "
        "`update_step(gradient, variable, learning_rate)`, in which each node has a rate of its "
        "own. Let its `apply` and `_backend_update_step` call those of "
        "`keras.optimizers.Optimizer`, and put the update into `update_step`."
    )


def _is_wrapper(optimizer):
    applies = type(optimizer).apply
    if applies is keras.optimizers.Optimizer.apply:
        return _holds_optimizers(optimizer)
    # A class of the user's own may also do something to the gradients and go on.
    return applies.__module__.split(".")[0] in ("keras", "keras_grapes") or _holds_optimizers(
        optimizer
    )


def _holds_optimizers(optimizer):
    for value in vars(optimizer).values():
        values = value.values() if isinstance(value, dict) else value
        values = values if isinstance(value, (dict, list, tuple)) else [value]
        if any(isinstance(one, keras.optimizers.Optimizer) for one in values):
            return True
    return False
