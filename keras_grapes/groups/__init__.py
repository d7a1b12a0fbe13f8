"""Which weights feed which nodes: from a layer class, a model or a list of variables to groups.

A *group* is the set of nodes whose importances are compared with each other, together with the
kernels that feed them. A `Dense` layer has one group; a `SimpleRNN` has one group fed by two
kernels; a `SeparableConv2D` has two groups. What users need of it is in `keras_grapes.grouping`.
"""

from keras_grapes.groups import keras_layers
from keras_grapes.groups.group import Group
from keras_grapes.groups.model_layers import WeightLayer, nested_groups, tied_notes, weight_layers
from keras_grapes.groups.names import group_by_name, is_kernel_name, path_of
from keras_grapes.groups.owners import has_unknown_weights, is_unknown
from keras_grapes.groups.registry import is_registered, layer_groups, register_grouping
from keras_grapes.groups.wrappers import error_modulated, is_wrapper, remember_wrapper

__all__ = [
    "Group",
    "WeightLayer",
    "error_modulated",
    "group_by_name",
    "has_unknown_weights",
    "is_kernel_name",
    "is_registered",
    "is_unknown",
    "is_wrapper",
    "keras_layers",
    "layer_groups",
    "nested_groups",
    "path_of",
    "register_grouping",
    "remember_wrapper",
    "tied_notes",
    "weight_layers",
]
