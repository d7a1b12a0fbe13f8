"""Trains a network with `kg.Grapes` in several processes that share the work of every batch.

    python examples/distributed_mnist.py
    python examples/distributed_mnist.py --dataset digits --workers 3

The workers are started on this machine and talk to each other over its loopback interface, by
TensorFlow's `MultiWorkerMirroredStrategy`. Each computes the gradients of its share of a batch;
their sum updates the weights, so that all workers have the same ones, those of one process that
trains on whole batches. On several machines, start this script on each of them with its
`TF_CONFIG` in the environment: https://www.tensorflow.org/guide/distributed_training
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data

HIDDEN_UNITS = (256, 256, 256)
# Of all workers together; it must not depend on their number, as the result must not.
BATCH_SIZE = 64
LEARNING_RATE = 0.05
# On the digits an epoch is 22 steps, on MNIST 937.
EPOCHS = 3
EPOCHS_ON_DIGITS = 10
# Lines of a failed worker's error stream to show.
LINES_OF_ERROR = 10


class WorkerError(Exception):
    """A worker ended before its work was done; the message says how."""


def parse(parser, arguments=None):
    parser.add_run_options(data.NAMES, "runs/distributed", EPOCHS, EPOCHS_ON_DIGITS)
    parser.add_argument(
        "--workers",
        type=command_line.positive_int,
        default=2,
        metavar="N",
        help="processes to start on this machine, default: 2; not used where TF_CONFIG is set",
    )
    # How the workers are started: they end when the process that started them does.
    parser.add_argument("--end-with-parent", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_run(arguments)


def main():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    if options.end_with_parent:
        end_with_parent()
    dataset = data.load_for(parser, options.dataset).flattened()
    parser.settle_epochs(options, dataset)
    if "TF_CONFIG" in os.environ:
        work(dataset, options)
        return
    print(f"Data     {dataset.title}, {len(dataset.train[0])} images to train on")
    print(
        f"Workers  {options.workers}, on this machine; each has a share of every batch", flush=True
    )
    # All load what this process has found, and perhaps downloaded.
    options.dataset = dataset.name
    try:
        run_workers(options)
    except WorkerError as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")


def run_workers(options):
    """Starts the workers and waits for them; none is left when this function is.

    Raises:
        WorkerError: If one of them fails.
    """
    workers = [f"127.0.0.1:{port}" for port in free_ports(options.workers)]
    command = [sys.executable, __file__, "--end-with-parent"]
    for name in ("dataset", "epochs", "seed", "output"):
        command += [f"--{name}", str(getattr(options, name))]
    # A terminated process leaves as an interrupted one does, and ends its workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as stack:
        processes, errors = [], []
        for index in range(options.workers):
            config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            errors.append(stack.enter_context(tempfile.TemporaryFile()))
            process = subprocess.Popen(
                command,
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stdin=subprocess.PIPE,
                stderr=errors[-1],
                # Ctrl-C in a terminal reaches this process alone.
                start_new_session=True,
            )
            processes.append(process)
            stack.callback(end, process)
        wait_for(processes, errors)


def wait_for(processes, errors):
    while any(process.poll() is None for process in processes):
        for index, (process, error) in enumerate(zip(processes, errors)):
            if process.poll():
                error.seek(0)
                lines = error.read().decode(errors="replace").splitlines()[-LINES_OF_ERROR:]
                raise WorkerError(
                    "\n".join([f"worker {index} ended with status {process.returncode}", *lines])
                )
        time.sleep(0.1)


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()


def end_with_parent():
    """Ends this process when the standard input closes, as it does when the parent has gone."""

    def watch():
        # Not through `sys.stdin`, whose lock Python wants back at its exit.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def free_ports(count):
    """Ports of the loopback interface that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def work(dataset, options):
    """Trains as the worker that TF_CONFIG says; the first one reports and saves the model."""
    command_line.import_tensorflow()
    import keras
    import tensorflow as tf

    import keras_grapes as kg

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    is_first = strategy.cluster_resolver.task_id == 0
    # One seed for all: the same initial weights, and the same order of the data.
    keras.utils.set_random_seed(options.seed)
    with strategy.scope():
        model = build_model(dataset)
        optimizer = kg.Grapes(keras.optimizers.SGD(LEARNING_RATE), model=model)
        optimizer.build(model.trainable_variables)

    # Keras's `fit` does not know of several workers. The loss of a share is divided by the size of
    # the whole batch, as the optimizer adds the gradients of the shares.
    loss_function = keras.losses.SparseCategoricalCrossentropy(reduction="sum")

    def train_on_share(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True)) / BATCH_SIZE
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    @tf.function
    def train_on_batch(batch):
        losses = strategy.run(train_on_share, args=batch)
        return strategy.reduce("SUM", losses, axis=None)

    batches = tf.data.Dataset.from_tensor_slices(dataset.train)
    batches = batches.shuffle(len(dataset.train[0]), seed=options.seed)
    batches = batches.batch(BATCH_SIZE, drop_remainder=True)
    steps = len(batches)
    batches = strategy.experimental_distribute_dataset(batches)
    for epoch in range(1, options.epochs + 1):
        if is_first:
            print(f"Epoch {epoch}/{options.epochs}", flush=True)
            bar = keras.utils.Progbar(steps)
        for step, batch in enumerate(batches, start=1):
            loss = train_on_batch(batch)
            if is_first:
                done = [("loss", float(loss))]
                if step == steps:
                    done.append(("test_accuracy", accuracy(model, dataset.test)))
                bar.update(step, done)
    if is_first:
        path = options.output / "model.keras"
        model.save(path)
        print(f"\nTest accuracy  {100 * accuracy(model, dataset.test):.2f} %")
        print(f"Trained model  {path}", flush=True)


def build_model(dataset):
    """A fully connected ReLU network."""
    import keras

    hidden = [
        keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")
        for number, units in enumerate(HIDDEN_UNITS, start=1)
    ]
    output = keras.layers.Dense(dataset.classes, activation="softmax", name="output")
    return keras.Sequential([keras.Input((dataset.train[0].shape[1],)), *hidden, output])


def accuracy(model, examples):
    """Share of the examples whose class the model finds."""
    images, labels = examples
    return float((model(images).numpy().argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    command_line.run(main)
