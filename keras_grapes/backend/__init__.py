"""What the package needs of a framework and Keras does not offer, one module a backend.

`keras.ops` comes first: what is here has no place there. Every module has the same functions, which
`tensorflow.py` describes, and no other file of the package imports a framework, except the one that
writes SavedModels.
"""

import keras

name = keras.backend.backend()

if name == "tensorflow":
    from keras_grapes.backend.tensorflow import (
        checkpointed,
        compiled,
        custom_gradient,
        eagerly,
        gradients,
        identity,
        is_sparse_gradient,
        is_variable,
        jvp,
        loop_over_time,
        random_normal,
        random_uniform,
        update_one_by_one,
        variable_key,
        vjp,
    )
elif name == "jax":
    from keras_grapes.backend.jax import (
        checkpointed,
        compiled,
        custom_gradient,
        eagerly,
        gradients,
        identity,
        is_sparse_gradient,
        is_variable,
        jvp,
        loop_over_time,
        random_normal,
        random_uniform,
        update_one_by_one,
        variable_key,
        vjp,
    )
elif name == "torch":
    from keras_grapes.backend.torch import (
        checkpointed,
        compiled,
        custom_gradient,
        eagerly,
        gradients,
        identity,
        is_sparse_gradient,
        is_variable,
        jvp,
        loop_over_time,
        random_normal,
        random_uniform,
        update_one_by_one,
        variable_key,
        vjp,
    )
else:
    raise ImportError(
        "keras_grapes runs on the backends 'tensorflow', 'jax' and 'torch' of Keras. Received: "
        f"backend '{name}'. Set KERAS_BACKEND to one of them ahead of the first import of Keras."
    )

__all__ = [
    "checkpointed",
    "compiled",
    "custom_gradient",
    "eagerly",
    "gradients",
    "identity",
    "is_sparse_gradient",
    "is_variable",
    "jvp",
    "loop_over_time",
    "name",
    "random_normal",
    "random_uniform",
    "update_one_by_one",
    "variable_key",
    "vjp",
]
