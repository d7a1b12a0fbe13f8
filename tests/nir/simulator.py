"""Runs a graph of NIR in NumPy, by the definitions of its nodes and Euler's method."""

import collections

import numpy as np


def run(graph, inputs, dt):
    """Returns what a graph puts out at each step for `inputs`, `(time, ...)`, in float64."""
    sources = collections.defaultdict(list)
    for source, target in graph.edges:
        sources[target].append(source)
    (first,) = [name for name, node in graph.nodes.items() if kind(node) == "Input"]
    (last,) = [name for name, node in graph.nodes.items() if kind(node) == "Output"]
    neurons = [name for name, node in graph.nodes.items() if hasattr(node, "r")]
    before = {name: np.zeros(np.shape(graph.nodes[name].r)) for name in neurons}
    states = {name: 0.0 for name in neurons}

    def loops(name):
        """Weights that lead from a neuron straight back to it."""
        return [s for s in sources[name] if s == name or sources[s] == [name]]

    def value(name):
        if name not in values:
            node = graph.nodes[name]
            back = loops(name) if name in neurons else []
            arriving = sum(value(source) for source in sources[name] if source not in back)
            for source in back:
                # What comes back is from the step before.
                arriving = arriving + (
                    before[name] if source == name else apply(graph.nodes[source], before[name])
                )
            if name in neurons:
                values[name], states[name] = step(node, arriving, states[name], dt)
            else:
                values[name] = apply(node, arriving)
        return values[name]

    outputs = []
    for x in np.asarray(inputs, "float64"):
        values = {first: x}
        outputs.append(value(last))
        before = {name: value(name) for name in neurons}
    return np.array(outputs)


def kind(node):
    return type(node).__name__


def step(node, current, state, dt):
    """Returns the output, and the state after it: the potential, or with it a synaptic current."""
    if kind(node) in ("CubaLIF", "CubaLI"):
        potential, synaptic = state if isinstance(state, tuple) else (0.0, 0.0)
        rate = dt / node.tau_syn.astype("float64")
        synaptic = synaptic + rate * (node.w_in * current - synaptic)
        potential = potential + dt / node.tau_mem * (node.v_leak - potential + node.r * synaptic)
        if kind(node) == "CubaLI":
            return potential, (potential, synaptic)
        spikes = (potential > node.v_threshold).astype("float64")
        return spikes, (np.where(spikes > 0, node.v_reset, potential), synaptic)
    potential = state
    rate = dt / node.tau.astype("float64") if hasattr(node, "tau") else dt
    leak = node.v_leak - potential if hasattr(node, "tau") else 0.0
    potential = potential + rate * (leak + node.r * current)
    if not hasattr(node, "v_threshold"):
        return potential, potential
    spikes = (potential > node.v_threshold).astype("float64")
    return spikes, np.where(spikes > 0, node.v_reset, potential)


def apply(node, x):
    match kind(node):
        case "Output":
            return x
        case "Linear":
            return node.weight @ x
        case "Affine":
            return node.weight @ x + node.bias
        case "Scale":
            return node.scale * x
        case "Flatten":
            assert node.start_dim == 0 and node.end_dim == -1
            return x.ravel()
        case "Conv2d":
            return conv(node, x)
        case "AvgPool2d":
            return pool(node, x) / np.prod(node.kernel_size)
        case "SumPool2d":
            return pool(node, x)
    raise AssertionError(kind(node))


def padded(x, padding):
    return np.pad(x, [(0, 0), *((p, p) if np.isscalar(p) else tuple(p) for p in padding)])


def conv(node, x):
    weight = node.weight.astype("float64")
    filters, _, height, width = weight.shape
    (sy, sx), (dy, dx) = np.broadcast_to(node.stride, 2), np.broadcast_to(node.dilation, 2)
    if isinstance(node.padding, str):
        totals = [d * (k - 1) for d, k in ((dy, height), (dx, width))]
        padding = [(t // 2, t - t // 2) for t in totals] if node.padding == "same" else [0, 0]
    else:
        padding = [int(p) for p in np.broadcast_to(node.padding, 2)]
    x = padded(x, padding)
    rows = (x.shape[1] - dy * (height - 1) - 1) // sy + 1
    columns = (x.shape[2] - dx * (width - 1) - 1) // sx + 1
    out = np.zeros((filters, rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * sy :, j * sx :][:, : dy * height : dy, : dx * width : dx]
            out[:, i, j] = np.tensordot(weight, window[:, :height, :width], 3) + node.bias
    return out


def pool(node, x):
    (height, width), (sy, sx) = node.kernel_size, node.stride
    x = padded(x, [int(p) for p in node.padding])
    rows, columns = (x.shape[1] - height) // sy + 1, (x.shape[2] - width) // sx + 1
    return np.array(
        [
            [
                [c[i * sy : i * sy + height, j * sx : j * sx + width].sum() for j in range(columns)]
                for i in range(rows)
            ]
            for c in x
        ]
    )
