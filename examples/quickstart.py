"""Trains one network four times: plain, with GRAPES in both versions, and a control.

    python examples/quickstart.py
    python examples/quickstart.py --dataset fashion_mnist --optimizer adam --epochs 3

All four start from the same weights and see the data in the same order. The control replaces the
factors of each layer by their mean: what it gains too is the gain of a larger learning rate, not of
the pattern over the nodes. A table compares test accuracies, a picture shows the learning curves.
No epoch is selected: the accuracy is that after the last one.
"""

import dataclasses
import pathlib
import sys

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
# Of the optimizers above these alone follow the size of a gradient; the others divide by it.
FOLLOW_THE_GRADIENT = ("sgd",)
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

    @property
    def diverged(self):
        return not self.training_loss[-1] < float("inf")


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
        Variant(
            'kg.propagate(model, kg.Modulation(granularity="layer"))',
            "the control: every node of a layer gets the layer's mean factor.",
            lambda model, optimizer: (
                kg.propagate(model, kg.Modulation(granularity="layer")),
                optimizer,
            ),
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

    # Once more, so that the order of the data does not hang on what building has drawn.
    keras.utils.set_random_seed(options.seed)
    history = model.fit(
        *dataset.train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=dataset.test,
    ).history
    return Result(variant, model, history["val_accuracy"], history["loss"])


def network(dataset):
    """The sizes of the network's layers as text."""
    sizes = (dataset.train[0].shape[1], *HIDDEN_UNITS, dataset.classes)
    return "-".join(str(size) for size in sizes) + " ReLU"


def table(results):
    """The comparison as text."""
    width = max(len(result.variant.code) for result in results)
    lines = [f"{'':{width}}  test accuracy"]
    for result in results:
        accuracy = f"{100 * result.test_accuracy[-1]:.2f} %"
        line = f"{result.variant.code:{width}}  {accuracy:>13}"
        if result.diverged:
            line += "  diverged: choose a smaller --learning-rate"
        lines.append(line)
    return "\n".join(lines)


def conclusion(propagating, control, optimizer):
    """What follows from the accuracies of `kg.propagate` and its control, as text."""
    lines = []
    if not (propagating.diverged or control.diverged):
        difference = 100 * (propagating.test_accuracy[-1] - control.test_accuracy[-1])
        lines.append(
            "The last row raises the learning rate as GRAPES does, without its pattern over the "
            f"nodes:\nthe pattern made {difference:+.2f} points here, in one run."
        )
    if optimizer in FOLLOW_THE_GRADIENT:
        lines.append(
            "A layer with an error gain of 2 learns as if from twice the learning rate: compare "
            "with\nplain training at a larger --learning-rate."
        )
    else:
        lines.append(
            f"{optimizer} divides a gradient by its size, so that a constant error gain cancels in "
            "kg.propagate:\nwhat is left is how the factors differ among the nodes and change in "
            "time. kg.Grapes multiplies\nthe step itself, which does not cancel."
        )
    lines.append(
        "One run decides nothing. docs/controls.md has what many runs found, and kg.compare runs "
        "the same\ncomparison on a model and data of your own, with an interval and a verdict."
    )
    return "\n\n".join(lines)


def draw(results, title, path):
    """Saves the learning curves as a picture."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = drawing.new_figure((10, 4.5))
    accuracy, loss = figure.subplots(1, 2)
    # Okabe and Ito's colours; markers and dashes tell the curves apart in grey as well.
    styles = (
        ("#000000", "o", ":"),
        ("#CC79A7", "D", "-."),
        ("#0072B2", "^", "-"),
        ("#E69F00", "s", "--"),
    )
    for result, (color, marker, dashes) in zip(results, styles):
        epochs = range(1, len(result.training_loss) + 1)
        style = {"color": color, "marker": marker, "linestyle": dashes, "markersize": 5}
        accuracy.plot(epochs, result.test_accuracy, label=result.variant.code, **style)
        loss.plot(epochs, result.training_loss, **style)
    accuracy.set_ylabel("test accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    accuracy.legend(loc="lower right", fontsize="small")
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
    command_line.import_tensorflow()
    try:
        build_optimizer(options.optimizer, options.learning_rate)
    except ValueError:
        parser.error(f"argument --optimizer: '{options.optimizer}' is not in this version of Keras")
    parser.settle_epochs(options, dataset)
    compare(dataset, options)


def compare(dataset, options):
    """Trains every variant; prints the comparison and saves the picture."""
    import keras_grapes as kg

    optimizer = f"{options.optimizer}, learning rate {options.learning_rate:g}"
    images, test_images = len(dataset.train[0]), len(dataset.test[0])
    print(f"Data       {dataset.title}, {images} images to train on and {test_images} to test on")
    print(f"Network    {network(dataset)}")
    print(f"Optimizer  {optimizer}, batches of {BATCH_SIZE}")
    print(f"Seed       {options.seed}: the same initial weights and order of the data every time")

    results = []
    chosen = variants()
    for number, variant in enumerate(chosen, start=1):
        print(f"\n{number}/{len(chosen)} {variant.code}: {variant.sentence}")
        results.append(train(variant, dataset, options))

    print(f"\nAfter epoch {options.epochs}:\n\n{table(results)}")
    propagating, control = results[2:]
    print(f"\n{conclusion(propagating, control, options.optimizer)}")
    print(f"\n{propagating.variant.code} after training, as `kg.summary` shows it:\n")
    print(kg.summary(propagating.model))
    path = options.output / "learning_curves.png"
    draw(results, f"{dataset.title}, {network(dataset)}, {optimizer}, seed {options.seed}", path)
    print(f"\nLearning curves: {path}")


if __name__ == "__main__":
    command_line.run(main)
