"""Second derivatives of layers, on the backend that Keras runs on."""

import keras
from keras import ops


def gradient_of_penalty(layer, x):
    """The gradient of the squared norm of the gradient of the sum of squared outputs."""
    if keras.backend.backend() == "jax":
        import jax

        gradient = jax.grad(lambda x: ops.sum(layer(x, training=True) ** 2))
        return jax.grad(lambda x: ops.sum(gradient(x) ** 2))(x)
    if keras.backend.backend() == "torch":
        import torch

        x = torch.tensor(x, requires_grad=True)
        loss = ops.sum(layer(x, training=True) ** 2)
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        return torch.autograd.grad(ops.sum(gradient**2), x)[0]
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = ops.sum(layer(x, training=True) ** 2)
        penalty = ops.sum(inner.gradient(loss, x) ** 2)
    return outer.gradient(penalty, x)
