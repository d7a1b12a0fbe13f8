"""An independent NumPy float64 implementation of GRAPES, to check the package against.

Written from the paper's equations alone; it imports nothing of the package.
"""

import numpy as np


def importance(kernel, axes):
    return np.abs(np.asarray(kernel, "float64")).sum(axis=axes)


def factor(importances, low=1.0, high=2.0):
    largest = importances.max()
    if largest == 0:
        return np.ones_like(importances)
    return np.clip(high * importances / largest, low, high)


def dense_factor(kernel, low=1.0, high=2.0):
    return factor(importance(kernel, 0), low, high)


ACTIVATIONS = {
    "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0).astype("float64")),
    "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
}


class SGD:
    def __init__(self, rate, momentum=0.0, nesterov=False):
        self.rate, self.momentum, self.nesterov = rate, momentum, nesterov
        self.velocity = {}

    def step(self, key, gradient, m, t):
        rate = self.rate * m
        if self.momentum == 0:
            return -rate * gradient
        v = self.momentum * self.velocity.get(key, 0.0) - rate * gradient
        self.velocity[key] = v
        return self.momentum * v - rate * gradient if self.nesterov else v


class RMSprop:
    def __init__(self, rate, rho=0.9, epsilon=1e-7):
        self.rate, self.rho, self.epsilon = rate, rho, epsilon
        self.square = {}

    def step(self, key, gradient, m, t):
        s = self.rho * self.square.get(key, 0.0) + (1 - self.rho) * gradient**2
        self.square[key] = s
        return -self.rate * m * gradient / np.sqrt(s + self.epsilon)


class Adam:
    def __init__(self, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.first, self.second = {}, {}

    def step(self, key, gradient, m, t):
        first = self.beta_1 * self.first.get(key, 0.0) + (1 - self.beta_1) * gradient
        second = self.beta_2 * self.second.get(key, 0.0) + (1 - self.beta_2) * gradient**2
        self.first[key], self.second[key] = first, second
        rate = self.rate * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return -rate * m * first / (np.sqrt(second) + self.epsilon)


class Network:
    """A multilayer perceptron with softmax and cross-entropy, trained by hand.

    `version` is "plain", "local" (the rate of each node's incoming weights is multiplied) or
    "propagating" (the error at each hidden layer's output is multiplied).
    """

    def __init__(self, weights, activation, optimizer, version, modulate=dense_factor):
        self.kernels = [np.asarray(w, "float64") for w in weights[0::2]]
        self.biases = [np.asarray(b, "float64") for b in weights[1::2]]
        self.f, self.df = ACTIVATIONS[activation]
        self.optimizer, self.version, self.modulate = optimizer, version, modulate
        self.t = 0

    def step(self, x, labels):
        self.t += 1
        outputs, sums = [np.asarray(x, "float64")], []
        for i, (w, b) in enumerate(zip(self.kernels, self.biases)):
            sums.append(outputs[-1] @ w + b)
            last = i == len(self.kernels) - 1
            outputs.append(sums[-1] if last else self.f(sums[-1]))
        logits = outputs[-1] - outputs[-1].max(1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        delta = (p - np.eye(p.shape[1])[labels]) / len(x)
        factors = [self.modulate(w) for w in self.kernels[:-1]] + [1.0]
        gradients = []
        for i in reversed(range(len(self.kernels))):
            gradients.append((outputs[i].T @ delta, delta.sum(0)))
            if i:
                delta = delta @ self.kernels[i].T
                if self.version == "propagating":
                    delta = delta * factors[i - 1]
                delta = delta * self.df(sums[i - 1])
        for i, (gw, gb) in enumerate(reversed(gradients)):
            m = factors[i] if self.version == "local" else 1.0
            self.kernels[i] = self.kernels[i] + self.optimizer.step(("w", i), gw, m, self.t)
            self.biases[i] = self.biases[i] + self.optimizer.step(("b", i), gb, 1.0, self.t)

    @property
    def weights(self):
        return [w for pair in zip(self.kernels, self.biases) for w in pair]
