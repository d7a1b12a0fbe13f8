"""Names for what arguments and results are, for readers of signatures and for type checkers.

Neither Keras nor the frameworks under it have one type for all tensors, so that these say what is
meant and let everything pass.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = []

# A tensor of the backend, a variable, or what Keras makes a tensor of.
Tensor: TypeAlias = Any
# What NumPy makes an array of; where a model takes it, also a structure of arrays.
Array: TypeAlias = Any
# Of Matplotlib, which need not be installed.
Axes: TypeAlias = Any
Figure: TypeAlias = Any
# Objects of Keras, their names or configs.
Initializer: TypeAlias = Callable | str | dict
Regularizer: TypeAlias = Callable | str | dict | None
Constraint: TypeAlias = Callable | str | dict | None
# Axes of one kernel, or a list with those of each.
IncomingAxes: TypeAlias = int | tuple[int, ...] | list | None
