"""A residual, a branching, a convolutional and a spiking network in NumPy float64.

Each is a function of a rule that returns the gradients of all weights, in the order in which the
network creates them. A rule says which error arrives at a tensor in place of what back-propagation
would bring there; all else is the chain rule, written out. Nothing here comes from the package
under test.
"""

# ruff: noqa: N806 (kernels are matrices)

import dataclasses
import typing

import numpy as np


@dataclasses.dataclass
class Rule:
    """How errors arrive.

    Attributes:
        kernels: Dict of the name of a layer to what takes an error at its linear map to its input,
            for rules that are local to a layer.
        direct: Dict of the name of a tensor to the kernel that brings the output error there, for
            direct rules.
        factors: Dict of the name of a layer to the factors of its nodes; none is 1.
        sent: Function of the output error that gives what a direct rule sends.
    """

    kernels: dict = dataclasses.field(default_factory=dict)
    direct: dict = dataclasses.field(default_factory=dict)
    factors: dict = dataclasses.field(default_factory=dict)
    sent: typing.Callable = lambda error: error

    def arrive(self, tensor, output_error, above, shape):
        """The error at a tensor.

        Args:
            tensor: Its name.
            output_error: Array `(batch, ..., outputs)`.
            above: List of `(function of a kernel, layer)`: how an error comes down from there.
            shape: Shape of the tensor.
        """
        if self.direct:
            arriving = self.sent(output_error) @ self.direct[tensor].T
            if arriving.ndim == 2 and len(shape) == 3 and arriving.size != np.prod(shape):
                arriving = np.broadcast_to(arriving[:, None], shape)
            return arriving.reshape(shape)
        return sum(down(self.kernels[layer]) for down, layer in above)

    def factor(self, layer):
        return self.factors.get(layer, 1.0)


def softmax_error(logits, labels):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    error = exponentials / exponentials.sum(axis=-1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    return error / len(labels)


def dense(error):
    return lambda kernel: error @ kernel.T


def residual(weights, x, labels, rule):
    """h = tanh(x A + a); u = tanh(h B + b); softmax((h + u) C + c)."""
    A, a, B, b, C, c = weights
    h = np.tanh(x @ A + a)
    u = np.tanh(h @ B + b)
    m = h + u
    e = softmax_error(m @ C + c, labels)
    at_m = rule.arrive("m", e, [(dense(e), "C")], m.shape)
    at_b = rule.factor("B") * at_m * (1 - u**2)
    at_h = at_m + rule.arrive("h", e, [(dense(at_b), "B")], h.shape)
    at_a = rule.factor("A") * at_h * (1 - h**2)
    return [x.T @ at_a, at_a.sum(0), h.T @ at_b, at_b.sum(0), m.T @ e, e.sum(0)]


def branching(weights, x, labels, rule):
    """h = tanh(x A + a); u = tanh(h B + b); v = relu(h C + c); softmax([u, v, x] D + d)."""
    A, a, B, b, C, c, D, d = weights
    h = np.tanh(x @ A + a)
    u = np.tanh(h @ B + b)
    v = np.maximum(h @ C + c, 0)
    m = np.concatenate([u, v, x], axis=1)
    e = softmax_error(m @ D + d, labels)
    at_m = rule.arrive("m", e, [(dense(e), "D")], m.shape)
    at_b = rule.factor("B") * at_m[:, : u.shape[1]] * (1 - u**2)
    at_c = rule.factor("C") * at_m[:, u.shape[1] : u.shape[1] + v.shape[1]] * (v > 0)
    at_h = rule.arrive("h", e, [(dense(at_b), "B"), (dense(at_c), "C")], h.shape)
    at_a = rule.factor("A") * at_h * (1 - h**2)
    pairs = [(x, at_a), (h, at_b), (h, at_c), (m, e)]
    return [g for signal, error in pairs for g in (signal.T @ error, error.sum(0))]


def convolve(x, kernel):
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    return sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(rows)
        for j in range(columns)
    )


def convolve_back(error, kernel):
    rows, columns = kernel.shape[:2]
    batch, height, width, _ = error.shape
    down = np.zeros((batch, height + rows - 1, width + columns - 1, kernel.shape[2]))
    for i in range(rows):
        for j in range(columns):
            down[:, i : i + height, j : j + width] += error @ kernel[i, j].T
    return down


def convolution_gradient(x, error, kernel):
    height, width = error.shape[1:3]
    gradient = np.zeros(kernel.shape)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            patch = x[:, i : i + height, j : j + width]
            gradient[i, j] = np.einsum("bhwi,bhwo->io", patch, error)
    return gradient


def convolutional(weights, x, labels, rule):
    """h = tanh(x * A + a), a map; u = relu(h * B + b) + h without its border; softmax(flat C + c).

    The skip crops the last row and column of `h`, and its channels are those of `u`.
    """
    A, a, B, b, C, c = weights
    h = np.tanh(convolve(x, A) + a)
    r = np.maximum(convolve(h, B) + b, 0)
    u = r + h[:, :-1, :-1]
    flat = u.reshape(len(x), -1)
    e = softmax_error(flat @ C + c, labels)
    at_u = rule.arrive("u", e, [(lambda k: (e @ k.T).reshape(u.shape), "C")], u.shape)
    at_b = rule.factor("B") * at_u * (r > 0)
    at_h = rule.arrive("h", e, [(lambda k: convolve_back(at_b, k), "B")], h.shape).copy()
    at_h[:, :-1, :-1] += at_u
    at_a = rule.factor("A") * at_h * (1 - h**2)
    return [
        convolution_gradient(x, at_a, A),
        at_a.sum((0, 1, 2)),
        convolution_gradient(h, at_b, B),
        at_b.sum((0, 1, 2)),
        flat.T @ e,
        e.sum(0),
    ]


class Units:
    """Spiking units with the reset by a gate, over time, and their errors."""

    def __init__(self, current, bias, recurrent=None, decay=0.8):
        self.recurrent, self.decay, self.bias = recurrent, decay, bias
        batch, steps, units = current.shape
        self.s = np.zeros((batch, steps + 1, units))
        self.y = np.zeros((batch, steps + 1, units))
        for t in range(steps):
            kept = decay * self.s[:, t] * (1 - self.y[:, t])
            drive = current[:, t] + kept
            if recurrent is not None:
                drive = drive + self.y[:, t] @ recurrent
            self.s[:, t + 1] = np.maximum(drive, 0)
            self.y[:, t + 1] = self.s[:, t + 1] + bias > 0
        self.outputs = self.y[:, 1:]

    def backward(self, error):
        """From the error at the outputs: errors at the current, gradients of bias and H."""
        at_current = np.zeros(error.shape)
        at_bias, at_recurrent = 0.0, 0.0
        to_s, to_y = np.zeros(error[:, 0].shape), np.zeros(error[:, 0].shape)
        for t in reversed(range(error.shape[1])):
            s = self.s[:, t + 1]
            at_threshold = (error[:, t] + to_y) * (1 - np.tanh(s + self.bias) ** 2)
            at_bias = at_bias + at_threshold.sum(0)
            at_current[:, t] = (to_s + at_threshold) * (s > 0)
            before = self.decay * at_current[:, t]
            to_s = before * (1 - self.y[:, t])
            to_y = -before * self.s[:, t]
            if self.recurrent is not None:
                to_y = to_y + at_current[:, t] @ self.recurrent.T
                at_recurrent = at_recurrent + self.y[:, t].T @ at_current[:, t]
        return at_current, at_bias, at_recurrent


def spiking(weights, x, targets, rule):
    """Spiking units with recurrent weights, spiking units, their mean rate; squared error."""
    A, H, a, B, b = weights
    hidden = Units(x @ A, a, H)
    output = Units(hidden.outputs @ B, b)
    steps = x.shape[1]
    rate = output.outputs.mean(axis=1)
    at_rate = 2 * (rate - targets) / rate.size
    at_outputs = np.repeat(at_rate[:, None] / steps, steps, axis=1)
    e, at_b, _ = output.backward(at_outputs)
    at_y = rule.arrive("y", e, [(dense(e), "B")], hidden.outputs.shape)
    at_current, at_a, at_h = hidden.backward(rule.factor("A") * at_y)
    return [
        np.einsum("bti,btu->iu", x, at_current),
        at_h,
        at_a,
        np.einsum("bti,btu->iu", hidden.outputs, e),
        at_b,
    ]
