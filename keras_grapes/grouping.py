"""Which weights of a layer feed which nodes: what a layer of your own tells."""

from keras_grapes.groups import Group, register_grouping

__all__ = ["Group", "register_grouping"]
