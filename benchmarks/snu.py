"""How fast a network of spiking neural units trains, against peers in Keras, PyTorch and JAX.

The network is 784-256-256-256-10 over 20 time steps, the step a full training step: forward,
backward and update. All candidates take turns, round after round, so that the load of the machine
falls on all of them; the table has the median over the rounds of the ratio to `kg.SNU` of the same
round. `matrix products` is the floor: the products of such a step alone, forward and backward.
The peers of `snu_peers.py` are measured where they are installed; `--python` names another
interpreter to look for them in, whose processes take their turns too.

    python benchmarks/snu.py
    python benchmarks/snu.py --python ~/peers/bin/python --output runs/snu.json
    python benchmarks/snu.py --steps 300 --batch 64
    python benchmarks/snu.py --memory
    python benchmarks/snu.py --first-calls
    python benchmarks/snu.py --sizes 512 512 --steps 500 --batch 16

`--first-calls` measures what a batch of a new length, and a short last one, cost at first. `--sizes
512 512 --steps 500 --batch 16` is the protocol of Open Neuromorphic: one linear and one spiking
layer, forward and backward.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from snu_peers import LEARNING_RATE, PEERS, RATE, Peer, peers_for, seconds

SIZES = (784, 256, 256, 256, 10)


def keras_candidates(steps):
    """Name to a function of the batch size that returns a training step."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_grapes as kg

    def data(batch):
        rng = np.random.default_rng(0)
        spikes = (rng.uniform(size=(batch, steps, SIZES[0])) < RATE).astype("float32")
        return tf.constant(spikes), tf.one_hot(rng.integers(0, SIZES[-1], batch), SIZES[-1])

    def network(layer, jit_compile):
        def prepare(batch):
            x, y = data(batch)
            hidden = [layer(units) for units in SIZES[1:]]
            pool = keras.layers.GlobalAveragePooling1D()
            model = keras.Sequential([keras.Input((steps, SIZES[0])), *hidden, pool])
            optimizer = keras.optimizers.SGD(LEARNING_RATE)
            optimizer.build(model.trainable_variables)

            @tf.function(jit_compile=jit_compile)
            def train():
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
                gradients = tape.gradient(loss, model.trainable_variables)
                optimizer.apply(gradients, model.trainable_variables)
                return loss

            return lambda: train().numpy()

        return prepare

    def matrix_products(jit_compile):
        def prepare(batch):
            x, _ = data(batch)
            x = tf.reshape(x, (-1, SIZES[0]))
            kernels = [tf.random.normal(shape) for shape in itertools.pairwise(SIZES)]

            @tf.function(jit_compile=jit_compile)
            def products():
                inputs = [x]
                for kernel in kernels:
                    inputs.append(tf.matmul(inputs[-1], kernel))
                error, results = inputs.pop(), []
                for layer in reversed(range(len(kernels))):
                    results.append(tf.matmul(inputs[layer], error, transpose_a=True))
                    if layer > 0:
                        error = tf.matmul(error, kernels[layer], transpose_b=True)
                return results

            return lambda: [result.numpy() for result in products()]

        return prepare

    def cells(**options):
        return lambda units: keras.layers.RNN(kg.SNUCell(units), return_sequences=True, **options)

    def snu(units):
        return kg.SNU(units, return_sequences=True)

    def lstm(units):
        return keras.layers.LSTM(units, return_sequences=True)

    candidates = {
        "kg.SNU": network(snu, False),
        "kg.SNU, jit_compile": network(snu, True),
        "RNN(kg.SNUCell)": network(cells(), False),
        "RNN(kg.SNUCell), jit_compile": network(cells(), True),
        "Keras LSTM": network(lstm, False),
        "matrix products": matrix_products(False),
        "matrix products, jit_compile": matrix_products(True),
    }
    if steps <= 50:  # Longer ones take minutes to compile.
        candidates["RNN(kg.SNUCell, unroll)"] = network(cells(unroll=True), False)
    return candidates


def measure(batch, options):
    """Returns for every candidate its seconds per step in each round, and seconds to compile."""
    timers, first = {}, {}
    candidates = keras_candidates(options.steps)
    unknown = [name for name in options.only or [] if name not in candidates]
    if unknown:
        raise SystemExit(f"--only takes the names {list(candidates)}. Received: {unknown}")
    for name in options.only or candidates:
        prepare = candidates[name]
        run = prepare(batch)
        first[name] = seconds(run, 1)
        run()
        timers[name] = lambda repeats, run=run: seconds(run, repeats)
    peers = {
        name: Peer(options.python, name, SIZES, options.steps, batch)
        for name in ([] if options.only else peers_for(options.steps))
    }
    for name, peer in peers.items():
        if peer.available:
            timers[name] = peer.seconds
    try:
        rounds = [
            {name: timer(options.repeats) for name, timer in timers.items()}
            for _ in range(options.rounds)
        ]
    finally:
        for peer in peers.values():
            peer.stop()
    return {name: [times[name] for times in rounds] for name in timers}, first


def measure_first_calls():
    """Prints the processor time of the first batch of a length, for three layers of 32 units."""
    import keras
    import numpy as np

    import keras_grapes as kg

    kinds = {
        "kg.SNU": lambda: kg.SNU(32, return_sequences=True),
        "RNN(kg.SNUCell)": lambda: keras.layers.RNN(kg.SNUCell(32), return_sequences=True),
    }
    # The first batch of all, two new lengths, one that is known, a short last batch.
    batches = [(8, 20), (8, 33), (8, 47), (8, 20), (5, 20)]
    print(f"{'':16}  " + "  ".join(f"{size} x {length}" for size, length in batches))
    taken = {name: [] for name in kinds}
    for _ in range(3):
        for name, make in kinds.items():
            hidden = [make() for _ in range(3)]
            pool = keras.layers.GlobalAveragePooling1D()
            model = keras.Sequential([keras.Input((None, 32)), *hidden, pool])
            model.compile("sgd", "mse")
            data = [(np.ones((*shape, 32)), np.ones((shape[0], 32))) for shape in batches]
            taken[name].append(
                [
                    seconds(lambda b=b, m=model: m.train_on_batch(*b), 1, time.process_time)
                    for b in data
                ]
            )
    for name, rows in taken.items():
        print(f"{name:16}  " + "  ".join(f"{statistics.median(c):6.2f}" for c in zip(*rows)))


# Of the measurement of memory: batch, time steps, units of each layer, numbers of layers.
MEMORY = (256, 100, 256, (2, 8))


def print_peak_memory(depth, jit_compile):
    """Trains a network of so many layers and prints the peak resident memory in bytes."""
    import resource

    import keras
    import tensorflow as tf

    import keras_grapes as kg

    batch, steps, units, _ = MEMORY
    hidden = [kg.SNU(units, return_sequences=True) for _ in range(depth)]
    pool = keras.layers.GlobalAveragePooling1D()
    model = keras.Sequential([keras.Input((steps, units)), *hidden, pool])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensors((tf.zeros((batch, steps, units)), tf.zeros((batch, units))))
    model.fit(data.repeat(3), verbose=0)
    # Linux counts in KiB.
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def measure_memory():
    """Prints how many tensors `(batch, time, units)` a layer adds to the peak of training."""
    batch, steps, units, depths = MEMORY
    for jit_compile in (False, True):
        peaks = []
        for depth in depths:
            command = [sys.executable, __file__, "--peak-memory-of", str(depth)]
            command += ["--jit"] * jit_compile
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            peaks.append(int(done.stdout))
        tensors = (peaks[1] - peaks[0]) / (depths[1] - depths[0]) / (4 * batch * steps * units)
        print(f"jit_compile={jit_compile!s:5}  {tensors:.1f} tensors (batch, time, units) a layer")


def table(times, first, batch):
    """The results of one batch size as text, slowest last."""
    lines = [
        f"batch {batch}",
        f"{'':35}  samples/s  ms/step  time / kg.SNU  time / floor  first call s",
    ]
    best = [min(pair) for pair in zip(*(times[name] for name in times if "products" in name))]
    for name in sorted(times, key=lambda name: statistics.median(times[name])):
        median = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[name], times["kg.SNU"]))
        floor = statistics.median(a / b for a, b in zip(times[name], best))
        call = f"{first[name]:.1f}" if name in first else ""
        lines.append(
            f"{name:35}  {batch / median:>9.0f}  {1e3 * median:>7.1f}  {ratio:>13.2f}  "
            f"{floor:>12.2f}  {call:>12}"
        )
    return "\n".join(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="time steps, default 20")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="default 64 256")
    parser.add_argument("--rounds", type=int, default=11, help="default 11")
    parser.add_argument("--repeats", type=int, default=5, help="steps a round, default 5")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="lines of the table to measure")
    parser.add_argument("--output", help="file for all numbers, as JSON")
    parser.add_argument("--memory", action="store_true", help="measure the memory of a layer")
    parser.add_argument("--first-calls", action="store_true", help="measure first calls")
    parser.add_argument("--sizes", type=int, nargs="+", help="inputs, and units of each layer")
    parser.add_argument("--peak-memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--jit", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        # What the ratios refer to.
        options.only = list(dict.fromkeys(["matrix products", "kg.SNU", *options.only]))
    if min(options.steps, options.rounds, options.repeats, *options.batch) < 1:
        parser.error("--steps, --batch, --rounds and --repeats must be at least 1")
    return options


def main():
    options = parse()
    if options.peak_memory_of:
        return print_peak_memory(options.peak_memory_of, options.jit)
    if options.first_calls:
        return measure_first_calls()
    if options.sizes:
        global SIZES
        SIZES = tuple(options.sizes)
    if options.memory:
        return measure_memory()
    print(
        f"{'-'.join(map(str, SIZES))}, {options.steps} time steps, {os.cpu_count()} CPUs "
        f"({platform.machine()}), {options.rounds} rounds of {options.repeats} steps"
    )
    results = {}
    for batch in options.batch:
        times, first = measure(batch, options)
        results[batch] = {"seconds": times, "first_call": first}
        print("\n" + table(times, first, batch), flush=True)
        for name in [] if options.only else PEERS:
            if name not in times:
                print(f"{name:35}  not measured")
    if options.output:
        os.makedirs(os.path.dirname(options.output) or ".", exist_ok=True)
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    return None


if __name__ == "__main__":
    main()
