"""Time of a training step of each feedback rule, as a ratio to back-propagation.

All models have the layers 784-3x1024-10, plain SGD and the same data. Their steps are those that
`fit` runs. They take turns within one run, so that whatever else the machine does hits all of them;
each number is a median over the rounds.
"""

import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import keras
import numpy as np
import tensorflow as tf

import keras_grapes as kg

RULES = {
    "FA": kg.FeedbackAlignment,
    "DFA": kg.DirectFeedbackAlignment,
    "IFA": kg.IndirectFeedbackAlignment,
    "SF": kg.SignConcordantFeedback,
    "DRTP": kg.DirectRandomTargetProjection,
}


def parse_arguments():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    parser.add_counts(
        ("--width", 1024, "units of a hidden layer"),
        ("--depth", 3, "number of hidden layers"),
        ("--rounds", 15, "turns of each model"),
        ("--steps", 4, "steps in a turn"),
    )
    parser.add_argument(
        "--batch",
        type=command_line.positive_int,
        nargs="+",
        default=[64, 256],
        metavar="N",
        help="batch sizes, default: 64 256",
    )
    return parser.parse_args()


def make_model(width, depth):
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(depth)]
    return keras.Sequential(
        [keras.Input((784,)), *hidden, keras.layers.Dense(10, activation="softmax")]
    )


def make_step(model, batch, jit_compile):
    """Returns a function that trains one batch as `fit` does."""
    model.compile(
        keras.optimizers.SGD(1e-4), "sparse_categorical_crossentropy", jit_compile=jit_compile
    )
    random = np.random.default_rng(0)
    images = random.random((batch, 784), dtype="float32")
    labels = random.integers(0, 10, batch)
    data = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.make_train_function()

    def step():
        logs = model.train_function(data)
        return logs.get_value() if hasattr(logs, "get_value") else logs

    return step


def time_steps(steps, rounds, repeats):
    """Lists the seconds per step of each function, which take turns."""
    for step in steps.values():
        for _ in range(3):
            step()
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(repeats):
                logs = step()
            float(logs["loss"])
            seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def multiplications(width, depth):
    """Multiplications of each rule for a sample, as a ratio to back-propagation."""
    kernels = [784 * width, *[width * width] * (depth - 1), width * 10]
    forward, update, back = sum(kernels), sum(kernels), sum(kernels[1:])
    total = forward + update + back
    inner = sum(kernels[1:-1])
    counts = {"BP": total, "FA": total, "SF": total}
    counts["DFA"] = counts["DRTP"] = forward + update + depth * width * 10
    counts["IFA"] = forward + update + inner + width * 10
    return {name: count / total for name, count in counts.items()}


def main():
    arguments = parse_arguments()
    # It takes the several models for one that is traced again and again.
    tf.get_logger().setLevel("ERROR")
    counts = multiplications(arguments.width, arguments.depth)
    print(f"784-{arguments.depth}x{arguments.width}-10, float32, SGD; time of a step by BP = 1")
    for batch in arguments.batch:
        for jit_compile in (False, True):
            models = {"BP": make_model(arguments.width, arguments.depth)}
            for name, rule in RULES.items():
                models[name] = rule(make_model(arguments.width, arguments.depth))
                models[f"{name}+GRAPES"] = rule(
                    make_model(arguments.width, arguments.depth), modulation=kg.Modulation()
                )
            steps = {name: make_step(model, batch, jit_compile) for name, model in models.items()}
            seconds = time_steps(steps, arguments.rounds, arguments.steps)
            print(f"\nbatch {batch}, jit_compile={jit_compile}")
            print(f"{'rule':12}{'ms':>8}{'ratio':>8}{'by count':>10}{'GRAPES adds':>13}")
            for name, values in seconds.items():
                plain = name.removesuffix("+GRAPES")
                line = f"{name:12}{1000 * statistics.median(values):8.2f}"
                line += f"{_ratio(values, seconds['BP']):8.2f}"
                if name == plain:
                    line += f"{counts[name]:10.2f}"
                else:
                    line += f"{'':10}{_ratio(values, seconds[plain]) - 1:13.1%}"
                print(line, flush=True)


def _ratio(values, reference):
    return statistics.median(a / b for a, b in zip(values, reference))


if __name__ == "__main__":
    main()
