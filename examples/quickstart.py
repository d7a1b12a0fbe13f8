"""Trains one network three times: plain, with `kg.Grapes` and with `kg.propagate`.

    python examples/quickstart.py
    python examples/quickstart.py --dataset fashion_mnist --optimizer adam --epochs 3

All three start from the same weights and see the data in the same order. A table compares their
test accuracy and the time of an epoch, a picture their learning curves. No epoch is selected: the
accuracy is that after the last one.
"""

import dataclasses
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data, drawing

HIDDEN_UNITS = (256, 256, 256, 256)
BATCH_SIZE = 64

# Keras's own defaults, but where a few epochs need another one. Adafactor and Ftrl do not train
# this network, at any rate tried.
LEARNING_RATES = {
    "adadelta": 1.0,
    "adafactor": 0.001,
    "adagrad": 0.01,
    "adam": 0.001,
    "adamax": 0.001,
    "adamw": 0.001,
    "ftrl": 0.001,
    "lion": 0.0001,
    "muon": 0.001,
    "nadam": 0.001,
    "rmsprop": 0.001,
    "schedulefreeadamw": 0.0025,
    "sgd": 0.01,
}
# On the digits an epoch is 23 steps, on MNIST 938.
EPOCHS = 5
EPOCHS_ON_DIGITS = 10


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train the network.

    Args:
        code: String, what a user writes for it.
        sentence: String, what it does.
        prepare: Function of a model and an optimizer that returns those to train with.
    """

    code: str
    sentence: str
    prepare: object


@dataclasses.dataclass(frozen=True)
class Result:
    """What training gave, one entry an epoch."""

    variant: Variant
    model: object
    test_accuracy: list
    training_loss: list
    seconds: list

    @property
    def epoch_seconds(self):
        """Median of the epochs; the first one traces the model, and counts if it is the only."""
        return statistics.median(self.seconds[1:] or self.seconds)


def variants():
    import keras_grapes as kg

    return [
        Variant(
            "plain",
            "the optimizer alone.",
            lambda model, optimizer: (model, optimizer),
        ),
        Variant(
            "kg.Grapes(optimizer, model=model)",
            "every hidden node learns at its own rate.",
            lambda model, optimizer: (model, kg.Grapes(optimizer, model=model)),
        ),
        Variant(
            "kg.propagate(model)",
            "every hidden node modulates the error on its way back.",
            lambda model, optimizer: (kg.propagate(model), optimizer),
        ),
    ]


def build_model(pixels, classes, seed):
    """A fully connected ReLU network; the same seed gives the same weights."""
    import keras

    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(
            units, activation="relu", kernel_initializer="he_normal", name=f"hidden_{number}"
        )
        for number, units in enumerate(HIDDEN_UNITS, start=1)
    ]
    output = keras.layers.Dense(classes, activation="softmax", name="output")
    return keras.Sequential([keras.Input((pixels,)), *hidden, output])


def build_optimizer(name, learning_rate):
    import keras

    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": learning_rate}})


def train(variant, dataset, options):
    """Trains the network in one way and returns its `Result`."""
    import keras

    model = build_model(dataset.train[0].shape[1], dataset.classes, options.seed)
    optimizer = build_optimizer(options.optimizer, options.learning_rate)
    model, optimizer = variant.prepare(model, optimizer)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    marks = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: marks.append(-time.perf_counter()),
        on_epoch_end=lambda epoch, logs: marks.append(marks.pop() + time.perf_counter()),
    )
    # Once more, so that the order of the data does not hang on what building has drawn.
    keras.utils.set_random_seed(options.seed)
    history = model.fit(
        *dataset.train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=dataset.test,
        callbacks=[clock],
    ).history
    return Result(variant, model, history["val_accuracy"], history["loss"], marks)


def network(dataset):
    """The sizes of the network's layers as text."""
    sizes = (dataset.train[0].shape[1], *HIDDEN_UNITS, dataset.classes)
    return "-".join(str(size) for size in sizes) + " ReLU"


def table(results):
    """The comparison as text."""
    width = max(len(result.variant.code) for result in results)
    lines = [f"{'':{width}}  test accuracy  seconds per epoch"]
    for result in results:
        accuracy = f"{100 * result.test_accuracy[-1]:.2f} %"
        line = f"{result.variant.code:{width}}  {accuracy:>13}  {result.epoch_seconds:>17.2f}"
        if not result.training_loss[-1] < float("inf"):
            line += "  diverged: choose a smaller --learning-rate"
        lines.append(line)
    return "\n".join(lines)


def draw(results, title, path):
    """Saves the learning curves as a picture."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = drawing.new_figure((10, 4.5))
    accuracy, loss = figure.subplots(1, 2)
    # Okabe and Ito's colours; markers and dashes tell the curves apart in grey as well.
    styles = (("#000000", "o", ":"), ("#E69F00", "s", "--"), ("#0072B2", "^", "-"))
    for result, (color, marker, dashes) in zip(results, styles):
        epochs = range(1, len(result.seconds) + 1)
        style = {"color": color, "marker": marker, "linestyle": dashes, "markersize": 5}
        accuracy.plot(epochs, result.test_accuracy, label=result.variant.code, **style)
        loss.plot(epochs, result.training_loss, **style)
    accuracy.set_ylabel("test accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    accuracy.legend(loc="lower right")
    loss.set_ylabel("training loss (mean over the epoch)")
    for axes in (accuracy, loss):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def parse(parser, arguments=None):
    parser.add_run_options(data.NAMES, "runs/quickstart", EPOCHS, EPOCHS_ON_DIGITS)
    parser.add_argument(
        "--optimizer",
        type=str.lower,
        choices=LEARNING_RATES,
        default="sgd",
        metavar="NAME",
        help=f"default: sgd; one of {', '.join(LEARNING_RATES)}",
    )
    parser.add_argument(
        "--learning-rate",
        type=command_line.positive_float,
        metavar="RATE",
        help="default: by optimizer, 0.01 for sgd",
    )
    options = parser.parse_run(arguments)
    if options.learning_rate is None:
        options.learning_rate = LEARNING_RATES[options.optimizer]
    return options


def main():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    dataset = data.load_for(parser, options.dataset).flattened()
    command_line.import_backend()
    try:
        build_optimizer(options.optimizer, options.learning_rate)
    except ValueError:
        parser.error(f"argument --optimizer: '{options.optimizer}' is not in this version of Keras")
    parser.settle_epochs(options, dataset)
    compare(dataset, options)


def compare(dataset, options):
    """Trains every variant; prints the comparison and saves the picture."""
    import keras

    import keras_grapes as kg

    optimizer = f"{options.optimizer}, learning rate {options.learning_rate:g}"
    images, test_images = len(dataset.train[0]), len(dataset.test[0])
    print(f"Data       {dataset.title}, {images} images to train on and {test_images} to test on")
    print(f"Network    {network(dataset)}")
    print(f"Backend    {keras.backend.backend()}")
    print(f"Optimizer  {optimizer}, batches of {BATCH_SIZE}")
    print(f"Seed       {options.seed}: the same initial weights and order of the data every time")

    results = []
    for number, variant in enumerate(variants(), start=1):
        print(f"\n{number}/3 {variant.code}: {variant.sentence}")
        results.append(train(variant, dataset, options))

    print(f"\nAfter epoch {options.epochs}:\n\n{table(results)}")
    print(f"\n{results[-1].variant.code} after training, as `kg.summary` shows it:\n")
    print(kg.summary(results[-1].model))
    print(
        "\nA layer with an error gain of 2 learns as if from twice the learning rate. That is part "
        "of\nthe difference: compare with plain training at a larger --learning-rate."
    )
    path = options.output / "learning_curves.png"
    draw(results, f"{dataset.title}, {network(dataset)}, {optimizer}, seed {options.seed}", path)
    print(f"\nLearning curves: {path}")


if __name__ == "__main__":
    command_line.run(main)
