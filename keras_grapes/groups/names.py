"""What the names of variables tell, where no model is known."""

from keras_grapes.groups.group import Group

__all__ = []


def group_by_name(variables):
    """Groups variables by their names alone, where no model is known.

    Every variable named `kernel` or `*_kernel` with two axes or more is a group, its last axis the
    nodes, except the last of them, which is taken for the output layer.

    Args:
        variables: List of `keras.Variable` or `tf.Variable` in the order of the layers.

    Returns:
        List of `Group`.
    """
    kernels = [v for v in variables if is_kernel_name(v) and len(v.shape) >= 2]
    return [Group(kernel, guessed=True) for kernel in kernels[:-1]]


def is_kernel_name(variable):
    """Whether a variable is named as Keras names the kernels of its layers."""
    name = variable.name.split("/")[-1].split(":")[0]
    return name == "kernel" or name.endswith("_kernel")


def path_of(variable):
    """The path of a Keras variable; the name of the backend's, which has no path."""
    return getattr(variable, "path", variable.name)
