"""FA, DFA and IFA in NumPy float64, as the papers write them.

Dense layers, one activation in all hidden layers, softmax and cross-entropy averaged over the
batch. Nothing here comes from the package under test.
"""

import numpy as np

ACTIVATIONS = {
    "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0).astype(float)),
    "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
}


def factor(importance):
    return np.clip(2 * importance / importance.max(), 1, 2)


def modulation_factors(rule, weights):
    """One vector of factors for each hidden layer."""
    if rule == "dfa":
        return [factor(np.abs(w).sum(axis=1)) for w in weights[1:]]
    return [factor(np.abs(w).sum(axis=0)) for w in weights[:-1]]


def gradients(rule, weights, biases, feedback, x, labels, activation, grapes, sample_weight=None):
    """Lists `[dW1, db1, dW2, db2, ...]`."""
    f, slope = ACTIVATIONS[activation]
    signals, pre = [x], []
    for w, b in zip(weights, biases):
        pre.append(signals[-1] @ w + b)
        signals.append(f(pre[-1]))
    exponentials = np.exp(pre[-1] - pre[-1].max(axis=1, keepdims=True))
    error = exponentials / exponentials.sum(axis=1, keepdims=True)
    error[np.arange(len(x)), labels] -= 1
    if sample_weight is not None:
        error *= sample_weight[:, None]
    error /= len(x)

    hidden = len(weights) - 1
    m = modulation_factors(rule, weights) if grapes else [1.0] * hidden
    deltas = [None] * hidden + [error]
    if rule == "ifa":
        deltas[0] = m[0] * (error @ feedback[0].T) * slope(pre[0])
        for k in range(1, hidden):
            deltas[k] = m[k] * (deltas[k - 1] @ weights[k]) * slope(pre[k])
    else:
        for k in reversed(range(hidden)):
            arriving = (error if rule == "dfa" else deltas[k + 1]) @ feedback[k].T
            deltas[k] = m[k] * arriving * slope(pre[k])
    result = []
    for signal, delta in zip(signals, deltas):
        result += [signal.T @ delta, delta.sum(axis=0)]
    return result


class SGD:
    def __init__(self, rate, momentum=0.0, nesterov=False):
        self.rate, self.momentum, self.nesterov, self.velocity = rate, momentum, nesterov, {}

    def step(self, key, g):
        v = self.momentum * self.velocity.get(key, 0.0) - self.rate * g
        self.velocity[key] = v
        return self.momentum * v - self.rate * g if self.nesterov else v


class RMSprop:
    def __init__(self, rate, rho=0.9, epsilon=1e-7):
        self.rate, self.rho, self.epsilon, self.mean = rate, rho, epsilon, {}

    def step(self, key, g):
        self.mean[key] = self.rho * self.mean.get(key, 0.0) + (1 - self.rho) * g**2
        return -self.rate * g / np.sqrt(self.mean[key] + self.epsilon)


class Adam:
    def __init__(self, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.m, self.v, self.t = {}, {}, {}

    def step(self, key, g):
        t = self.t[key] = self.t.get(key, 0) + 1
        self.m[key] = self.beta_1 * self.m.get(key, 0.0) + (1 - self.beta_1) * g
        self.v[key] = self.beta_2 * self.v.get(key, 0.0) + (1 - self.beta_2) * g**2
        rate = self.rate * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return -rate * self.m[key] / (np.sqrt(self.v[key]) + self.epsilon)


def train(rule, optimizer, parameters, feedback, batches, activation, grapes):
    """Returns the parameters `[W1, b1, W2, b2, ...]` after a step on each batch."""
    parameters = [np.array(p, "float64") for p in parameters]
    feedback = [np.array(b, "float64") for b in feedback]
    for x, labels in batches:
        step = gradients(
            rule,
            parameters[::2],
            parameters[1::2],
            feedback,
            x.astype("float64"),
            labels,
            activation,
            grapes,
        )
        for key, g in enumerate(step):
            parameters[key] += optimizer.step(key, g)
    return parameters
