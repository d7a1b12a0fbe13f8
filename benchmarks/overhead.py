"""What a training step with GRAPES costs, against the same step without it.

Every cell of the table trains the same network as a plain model, with `Grapes(optimizer)` and as
`propagate(model)`, by the step that `fit` runs. The three take short turns, round after round, so
that the load of the machine falls on all of them; the table has the median and the quartiles, over
the rounds, of the ratio to the plain steps of the same round. Peak memory is measured in a process
of its own for each variant, on a network whose largest kernel is big enough to be seen.

    python benchmarks/overhead.py --output runs/overhead.json
    python benchmarks/overhead.py --networks resnet50 --rounds 15 --jit off
    python benchmarks/overhead.py --picture docs/images/overhead.png
    KERAS_BACKEND=jax python benchmarks/overhead.py --networks 784-4x256-10

`--picture` measures something else: how the ratios grow with the width, the depth and the batch of
a multilayer perceptron that SGD trains without XLA, and draws that. `--clock processor` counts the
processor time of all threads, which other work on the machine changes less than the time that
passes.
"""

import argparse
import functools
import gc
import importlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import keras_grapes as kg

VARIANTS = ("plain", "grapes", "propagate")
MEMORY_WIDTH = 4096
LARGEST_KERNEL_MB = MEMORY_WIDTH**2 * 4 / 2**20
BACKEND = keras.backend.backend()
# Whether XLA compiles the step: JAX's always is, PyTorch's never here.
JIT = {"tensorflow": (False, True), "jax": (True,), "torch": (False,)}[BACKEND]


def dense_network(width, depth):
    hidden = [layers.Dense(width, "relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10)])


def conv_network():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, "relu"),
            layers.Dense(10),
        ]
    )


def application(make):
    """A network of `keras.applications` for small images."""
    return make(weights=None, input_shape=IMAGE_SHAPE, classes=10, classifier_activation=None)


def transformer(tokens=64, width=128, heads=4, blocks=2):
    inputs = x = keras.Input((tokens, width))
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        hidden = layers.Dense(4 * width, "relu")(x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(width)(hidden)]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


IMAGE_SHAPE = (64, 64, 3)
# Network and the sizes of its batches.
NETWORKS = {
    "784-4x256-10": (lambda: dense_network(256, 4), (64, 256)),
    "784-3x1024-10": (lambda: dense_network(1024, 3), (64, 256)),
    "conv 16-32-128": (conv_network, (64, 256)),
    "transformer": (transformer, (16, 64)),
    "mobilenetv3": (lambda: application(keras.applications.MobileNetV3Small), (16, 64)),
    "resnet50": (lambda: application(keras.applications.ResNet50), (16,)),
}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(1e-3),
    "adam": lambda: keras.optimizers.Adam(1e-4),
}


def make(variant, network, optimizer, jit):
    """Returns a compiled model."""
    keras.utils.set_random_seed(0)
    model = network()
    optimizer = optimizer()
    # A copy for every variant: what making one leaves behind in memory is not the step's.
    model = kg.propagate(model) if variant == "propagate" else keras.models.clone_model(model)
    if variant == "grapes":
        optimizer = kg.Grapes(optimizer, model=model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=jit)
    return model


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def stepper(model, batch, clock="wall"):
    """Returns a function that runs training steps, as `fit` does, and returns their seconds."""
    clock = CLOCKS[clock]
    rng = np.random.default_rng(0)
    x = rng.random((batch, *model.input_shape[1:]), dtype="float32")
    y = rng.integers(0, 10, batch)
    train = _step_of_tensorflow(model, x, y) if BACKEND == "tensorflow" else _fit(model, x, y)

    def run(steps):
        start = clock()
        train(steps)
        return clock() - start

    return run


def _step_of_tensorflow(model, x, y):
    import tensorflow as tf

    model.make_train_function()
    data = iter(tf.data.Dataset.from_tensors((x, y)).repeat().prefetch(2))

    def train(steps):
        for _ in range(steps):
            model.train_function(data)

    return train


def _fit(model, x, y):
    """Elsewhere a step is not to be had without `fit`, which brings the state to it and back."""

    def train(steps):
        batches = ((x, y) for _ in itertools.count())
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    return train


def device():
    """The name of the device that the steps run on."""
    if BACKEND == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return keras.distribution.list_devices()[0]


def measure(network, batch, optimizer, jit, options):
    """Returns the median seconds of a plain step and the ratios of each variant, round by round.

    Args:
        network: Function that returns a network.
        batch: Int, the size of a batch.
        optimizer: Name of the optimizer.
        jit: Bool, whether XLA compiles the step.
        options: The options of the command line: rounds, seconds of a turn and clock.
    """
    models = {v: make(v, network, OPTIMIZERS[optimizer], jit) for v in VARIANTS}
    run = {variant: stepper(model, batch, options.clock) for variant, model in models.items()}
    for variant in VARIANTS:
        run[variant](3)
    steps = max(1, round(options.turn_seconds / (run["plain"](5) / 5)))
    times = {variant: [] for variant in VARIANTS}
    for turn in range(options.rounds):
        for variant in np.roll(VARIANTS, turn):
            times[variant].append(run[variant](steps) / steps)
    ratios = {v: [t / p for t, p in zip(times[v], times["plain"])] for v in VARIANTS[1:]}
    return statistics.median(times["plain"]), ratios


# Of the picture: what grows, and the widths, depths and batches of the networks.
SCALING = {
    "units of a layer": [(width, 4, 64) for width in (64, 128, 256, 512, 1024)],
    "hidden layers": [(256, depth, 64) for depth in (1, 2, 4, 8, 16)],
    "batch": [(256, 4, batch) for batch in (16, 64, 256, 1024)],
}


def measure_scaling(options):
    """Returns for each entry of `SCALING` a list of the ratios of each variant."""
    measured, known = {}, {}
    for title, cells in SCALING.items():
        for cell in cells:
            if cell not in known:
                width, depth, batch = cell
                network = functools.partial(dense_network, width, depth)
                plain, known[cell] = measure(network, batch, "sgd", JIT[0], options)
                shown = "".join(f"  {v} {median_and_quartiles(r)}" for v, r in known[cell].items())
                name = f"784-{depth}x{width}-10"
                print(f"{name:<16}{batch:>6}{1e3 * plain:>10.2f}{shown}", flush=True)
                keras.backend.clear_session()
        measured[title] = [known[cell] for cell in cells]
    return measured


def draw_scaling(measured, path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(SCALING), sharey=True)
    # Okabe and Ito's colours, which can be told apart by all.
    styles = {"grapes": ("Grapes", "#0072B2", "o"), "propagate": ("propagate", "#D55E00", "s")}
    for place, (axes, (title, cells)) in enumerate(zip(all_axes, SCALING.items())):
        x = [cell[place] for cell in cells]
        for variant, (label, colour, marker) in styles.items():
            quartiles = [statistics.quantiles(r[variant], n=4) for r in measured[title]]
            low, median, high = zip(*quartiles)
            axes.plot(x, median, color=colour, marker=marker, label=label)
            axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        axes.axhline(1, color="0.6", ls="--", lw=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, x)
        axes.minorticks_off()
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylabel("time of a step, plain = 1")
    all_axes[0].legend(frameon=False)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure.savefig(path, dpi=150)


def median_and_quartiles(values):
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({low:.2f}-{high:.2f})"


def peak_memory(variant, optimizer, jit):
    """Returns the peak resident memory in MiB of a process that trains one variant."""
    command = [sys.executable, __file__, "--peak-memory-of", variant, optimizer, str(int(jit))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak_memory(variant, optimizer, jit):
    model = make(variant, lambda: dense_network(MEMORY_WIDTH, 2), OPTIMIZERS[optimizer], jit)
    gc.collect()
    run = stepper(model, 64)
    run(5)
    # Forget the peak of making the network and of tracing.
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    run(5)
    with open("/proc/self/status", encoding="ascii") as file:
        peak_kib = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    print(int(peak_kib) / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--turn-seconds", type=float, default=0.05)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--output", default="runs/overhead.json", help="a JSON file")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--jit", choices=("on", "off"), help="with or without XLA alone")
    parser.add_argument("--picture", help="a file to draw how the ratios grow")
    parser.add_argument("--peak-memory-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_memory_of:
        variant, optimizer, jit = options.peak_memory_of
        return print_peak_memory(variant, optimizer, bool(int(jit)))

    framework = importlib.import_module(BACKEND)
    print(f"Keras {keras.__version__} on {BACKEND} {framework.__version__}, {device()}\n")
    if options.picture:
        measured = measure_scaling(options)
        return draw_scaling(measured, options.picture)
    compiled = [jit for jit in JIT if options.jit in (None, "on" if jit else "off")]
    cells = [
        (network, batch, optimizer, jit)
        for network in options.networks
        for batch in NETWORKS[network][1]
        for optimizer in options.optimizers
        for jit in compiled
    ]
    print(f"{'network':<16}{'batch':>6}{'optimizer':>10}{'jit':>6}{'plain ms':>10}", end="")
    print("".join(f"{v:>22}" for v in VARIANTS[1:]))
    records = []
    for network, batch, optimizer, jit in cells:
        plain, ratios = measure(NETWORKS[network][0], batch, optimizer, jit, options)
        shown = {variant: median_and_quartiles(values) for variant, values in ratios.items()}
        print(f"{network:<16}{batch:>6}{optimizer:>10}{jit!s:>6}{1e3 * plain:>10.2f}", end="")
        print("".join(f"{shown[v]:>22}" for v in VARIANTS[1:]), flush=True)
        records.append(
            {
                "network": network,
                "batch": batch,
                "optimizer": optimizer,
                "jit_compile": jit,
                "plain_seconds": plain,
                "ratios": ratios,
            }
        )
        keras.backend.clear_session()

    if options.memory_rounds:
        print(f"\nPeak memory over plain, in kernels of {LARGEST_KERNEL_MB:.0f} MiB (the largest):")
    memory = []
    for optimizer, jit in itertools.product(
        options.optimizers * bool(options.memory_rounds), compiled
    ):
        extra = {v: [] for v in VARIANTS[1:]}
        for _ in range(options.memory_rounds):
            peak = {v: peak_memory(v, optimizer, jit) for v in VARIANTS}
            for variant, values in extra.items():
                values.append((peak[variant] - peak["plain"]) / LARGEST_KERNEL_MB)
        shown = "".join(f"  {v} {statistics.median(e):+.2f}" for v, e in extra.items())
        print(f"784-2x{MEMORY_WIDTH}-10 {optimizer:>6} jit {jit!s:>5}{shown}", flush=True)
        memory.append({"optimizer": optimizer, "jit_compile": jit, "extra_kernels": extra})

    os.makedirs(os.path.dirname(options.output) or ".", exist_ok=True)
    setting = {
        "rounds": options.rounds,
        "clock": options.clock,
        "python": platform.python_version(),
        "backend": BACKEND,
        BACKEND: framework.__version__,
        "device": device(),
        "keras": keras.__version__,
        "cores": os.cpu_count(),
    }
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump({"setting": setting, "steps": records, "memory": memory}, file, indent=1)
    print(f"\nWritten to {options.output}")
    return None


if __name__ == "__main__":
    main()
