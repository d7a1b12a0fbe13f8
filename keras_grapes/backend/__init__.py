"""What the package needs of a framework and Keras does not offer, one module a backend.

`keras.ops` comes first: what is here has no place there. Every module has the same functions, which
`tensorflow.py` describes, and no other file of the package imports a framework, except the one that
writes SavedModels.
"""

import importlib

import keras

name = keras.backend.backend()

if name not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras_grapes runs on the backends 'tensorflow', 'jax' and 'torch' of Keras. Received: "
        f"backend '{name}'. Set KERAS_BACKEND to one of them ahead of the first import of Keras."
    )

_module = importlib.import_module(f"keras_grapes.backend.{name}")

can_compile = _module.can_compile
changes_state_by = _module.changes_state_by
checked = _module.checked
checkpointed = _module.checkpointed
compiled = _module.compiled
custom_gradient = _module.custom_gradient
differentiated_as = _module.differentiated_as
eagerly = _module.eagerly
gradients = _module.gradients
has_values = _module.has_values
identity = _module.identity
is_compiled = _module.is_compiled
is_sparse_gradient = _module.is_sparse_gradient
is_variable = _module.is_variable
jvp = _module.jvp
key_of_step = _module.key_of_step
lacks_derivatives_of_forward = _module.lacks_derivatives_of_forward
loop_over_time = _module.loop_over_time
random_normal = _module.random_normal
random_uniform = _module.random_uniform
runs_eagerly = _module.runs_eagerly
update_one_by_one = _module.update_one_by_one
variable_key = _module.variable_key
vjp = _module.vjp

__all__ = [
    "can_compile",
    "changes_state_by",
    "checked",
    "checkpointed",
    "compiled",
    "custom_gradient",
    "differentiated_as",
    "eagerly",
    "gradients",
    "has_values",
    "identity",
    "is_compiled",
    "is_sparse_gradient",
    "is_variable",
    "jvp",
    "key_of_step",
    "lacks_derivatives_of_forward",
    "loop_over_time",
    "name",
    "random_normal",
    "random_uniform",
    "runs_eagerly",
    "update_one_by_one",
    "variable_key",
    "vjp",
]
