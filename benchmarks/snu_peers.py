"""Training steps of spiking networks in other libraries, for `benchmarks/snu.py`.

Each peer runs in a process of its own, so that no two libraries share one's threads and memory, and
takes a step when it is told to. All train the same network: linear layers without bias, each with
leaky units after it, on random spikes, with a squared error of the mean output, by SGD.

    python benchmarks/snu_peers.py "spyx LIF" --sizes 512 512 --steps 500 --batch 16
"""

import argparse
import itertools
import subprocess
import sys
import time

RATE = 0.1
DECAY = 0.8
LEARNING_RATE = 0.1


def seconds(run, repeats, clock=time.perf_counter):
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def torch_step(forward_of, sizes, steps, batch):
    """A training step by PyTorch; `forward_of` makes the forward pass from the linear layers."""
    import torch

    torch.manual_seed(0)
    x = (torch.rand(steps, batch, sizes[0]) < RATE).float()
    y = torch.nn.functional.one_hot(torch.randint(0, sizes[-1], (batch,)), sizes[-1]).float()
    linears = torch.nn.ModuleList(
        torch.nn.Linear(*shape, bias=False) for shape in itertools.pairwise(sizes)
    )
    forward = forward_of(linears)
    optimizer = torch.optim.SGD(linears.parameters(), LEARNING_RATE)

    def train():
        optimizer.zero_grad()
        loss = ((forward(x).mean(0) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def step_by_step(linears, neurons, first_state):
    """The forward pass of cells that take one time step each."""
    import torch

    def forward(x):
        states = [first_state(neuron) for neuron in neurons]
        outputs = []
        # The first layer sees all time steps at once, as nothing feeds back into it.
        for current in linears[0](x):
            spikes, states[0] = neurons[0](current, states[0])
            for i in range(1, len(neurons)):
                spikes, states[i] = neurons[i](linears[i](spikes), states[i])
            outputs.append(spikes)
        return torch.stack(outputs)

    return forward


def snntorch_leaky(linears):
    import snntorch

    neurons = [snntorch.Leaky(beta=DECAY) for _ in linears]
    return step_by_step(linears, neurons, lambda neuron: neuron.init_leaky())


def norse_lif(linears):
    import norse.torch

    neurons = [norse.torch.LIFCell() for _ in linears]
    return step_by_step(linears, neurons, lambda neuron: None)


def spikingjelly_lif(linears):
    from spikingjelly.activation_based import functional, neuron

    nodes = [neuron.LIFNode(tau=1 / (1 - DECAY), step_mode="m") for _ in linears]

    def forward(x):
        for linear, node in zip(linears, nodes):
            functional.reset_net(node)
            x = node(linear(x))
        return x

    return forward


def spikingjelly_compiled(linears):
    import torch

    return torch.compile(spikingjelly_lif(linears))


def plain_compiled(linears):
    """Leaky units in plain PyTorch: each layer's loop over time is one compiled function."""
    import torch
    from torch.autograd import Function

    class Spike(Function):
        @staticmethod
        def forward(context, potential):
            context.save_for_backward(potential)
            return (potential > 0).to(potential.dtype)

        @staticmethod
        def backward(context, error):
            (potential,) = context.saved_tensors
            return error * (1 - torch.tanh(potential) ** 2)

    @torch.compile
    def units(current):
        potential = spikes = torch.zeros_like(current[0])
        outputs = []
        for drive in current:
            potential = drive + DECAY * potential * (1 - spikes)
            spikes = Spike.apply(potential - 1)
            outputs.append(spikes)
        return torch.stack(outputs)

    def forward(x):
        for linear in linears:
            x = units(linear(x))
        return x

    return forward


def spyx_step(sizes, steps, batch):
    import jax
    import jax.numpy as jnp
    import spyx.nn
    from flax import nnx

    rngs = nnx.Rngs(0)
    stack = [
        layer
        for inputs, units in itertools.pairwise(sizes)
        for layer in (
            nnx.Linear(inputs, units, use_bias=False, rngs=rngs),
            spyx.nn.LIF((units,), beta=DECAY, rngs=rngs),
        )
    ]
    definition, parameters, rest = nnx.split(spyx.nn.Sequential(*stack), nnx.Param, ...)
    key = jax.random.key(0)
    x = (jax.random.uniform(key, (steps, batch, sizes[0])) < RATE).astype(jnp.float32)
    y = jax.nn.one_hot(jax.random.randint(key, (batch,), 0, sizes[-1]), sizes[-1])

    def loss_of(parameters):
        outputs, _ = spyx.nn.run(nnx.merge(definition, parameters, rest), x)
        return ((outputs.mean(0) - y) ** 2).mean()

    @jax.jit
    def step(parameters):
        loss, errors = jax.value_and_grad(loss_of)(parameters)
        return loss, jax.tree.map(lambda p, e: p - LEARNING_RATE * e, parameters, errors)

    def train():
        nonlocal parameters
        loss, parameters = step(parameters)
        return loss.item()

    return train


TORCH_PEERS = {
    "snntorch Leaky": snntorch_leaky,
    "norse LIFCell": norse_lif,
    "spikingjelly LIFNode": spikingjelly_lif,
    "spikingjelly LIFNode, torch.compile": spikingjelly_compiled,
    "plain PyTorch, torch.compile": plain_compiled,
}
PEERS = (*TORCH_PEERS, "spyx LIF")
# PyTorch writes out every step of time: with many of them it compiles for minutes.
LONGEST_TO_COMPILE = 100


def peers_for(steps):
    return [n for n in PEERS if "torch.compile" not in n or steps <= LONGEST_TO_COMPILE]


class Peer:
    """A peer in a process of its own that runs a step when it is told to."""

    def __init__(self, python, name, sizes, steps, batch):
        command = [python, __file__, name, "--steps", str(steps), "--batch", str(batch)]
        self.process = subprocess.Popen(
            [*command, "--sizes", *map(str, sizes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.available = "ready" in iter(
            lambda: self.process.stdout.readline().strip() or None, None
        )

    def seconds(self, repeats):
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    network = options.sizes, options.steps, options.batch
    if options.name in TORCH_PEERS:
        train = torch_step(TORCH_PEERS[options.name], *network)
    else:
        train = spyx_step(*network)
    for _ in range(3):
        train()
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds(train, int(line)), flush=True)


if __name__ == "__main__":
    main()
