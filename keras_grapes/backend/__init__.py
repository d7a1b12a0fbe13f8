"""What the package needs of a framework and Keras does not offer, one module a backend.

`keras.ops` comes first: what is here has no place there. Every module has the same functions, and
no other file of the package imports a framework, except the one that writes SavedModels.
"""

import keras

name = keras.backend.backend()

if name == "tensorflow":
    from keras_grapes.backend.tensorflow import (
        changes_state_by,
        checked,
        custom_gradient,
        eagerly,
        gradients,
        identity,
        is_compiled,
        is_sparse_gradient,
        is_variable,
        jvp,
        loop_over_time,
        random_normal,
        random_uniform,
        runs_eagerly,
        variable_key,
        vjp,
    )
else:
    raise ImportError(
        f"keras_grapes runs on the TensorFlow backend of Keras. Received: backend '{name}'. Set "
        "KERAS_BACKEND=tensorflow ahead of the first import of Keras."
    )

__all__ = [
    "changes_state_by",
    "checked",
    "custom_gradient",
    "eagerly",
    "gradients",
    "identity",
    "is_compiled",
    "is_sparse_gradient",
    "is_variable",
    "jvp",
    "loop_over_time",
    "name",
    "random_normal",
    "random_uniform",
    "runs_eagerly",
    "variable_key",
    "vjp",
]
