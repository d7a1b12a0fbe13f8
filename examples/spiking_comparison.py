"""Compares networks of spiking neural units on rate-coded digits, plain and with GRAPES.

    python examples/spiking_comparison.py
    python examples/spiking_comparison.py --dataset digits --epochs 20

Four networks: spiking units (SNU) in three hidden layers and soft units (sSNU) in two, each trained
plain and as `kg.propagate(model)`. Every pixel is the rate of a random spike train, drawn anew for
every batch; the output layer spikes too, and the mean rate of its units over time is compared with
the one-hot label by the mean squared error. A table compares the test accuracy, pictures show the
learning curves, the firing rates of the layers and the spikes of one image on its way through.
"""

import dataclasses
import pathlib
import sys
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data, drawing

UNITS = 256
BATCH_SIZE = 32
# A pixel of 1 spikes with this probability at every time step.
RATE = 0.3
DECAY = 0.9
# On the digits an epoch is 45 steps, on MNIST 1875.
EPOCHS = 2
EPOCHS_ON_DIGITS = 30
# Samples that the firing rates are taken from.
PROBED = 256


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network and one way to train it.

    Args:
        unit: String, the name of the layer class in `keras_grapes`.
        hidden_layers: Int.
        input_activation: String. A ReLU would leave the deeper layers of this network silent at
            the start, and a silent ReLU passes no error back.
        variance: Float, that of the first weights, 1 being Glorot's: with which each of three
            layers would pass on a tenth of the spikes of the one before.
        learning_rate: Float. The mean squared error is the mean over ten outputs and the rates are
            means over time, so it is large.
        grapes: Bool, whether the error is modulated.
    """

    unit: str
    hidden_layers: int
    input_activation: str
    variance: float
    learning_rate: float
    grapes: bool

    @property
    def title(self):
        return f"{'sSNU' if self.unit == 'SSNU' else self.unit}, {self.method}"

    @property
    def method(self):
        return "GRAPES" if self.grapes else "plain"


VARIANTS = [
    Variant("SNU", 3, "leaky_relu", 4.0, 0.5, grapes=False),
    Variant("SNU", 3, "leaky_relu", 4.0, 0.5, grapes=True),
    Variant("SSNU", 2, "linear", 1.0, 2.0, grapes=False),
    Variant("SSNU", 2, "linear", 1.0, 2.0, grapes=True),
]


@dataclasses.dataclass(frozen=True)
class Result:
    """What training gave; lists have one entry an epoch."""

    variant: Variant
    model: object
    accuracy: list
    loss: list
    firing_rates: dict
    test_accuracy: float
    seconds: float


def build_model(variant, pixels, classes, options, test_steps):
    """Rate coding, hidden and output layers of one kind of unit, mean output rate."""
    import keras

    import keras_grapes as kg

    keras.utils.set_random_seed(options.seed)
    unit = getattr(kg, variant.unit)
    names = [f"hidden_{number}" for number in range(1, variant.hidden_layers + 1)] + ["output"]
    layers = [
        unit(
            classes if name == "output" else UNITS,
            decay=DECAY,
            input_activation=variant.input_activation,
            kernel_initializer=keras.initializers.VarianceScaling(
                variant.variance, "fan_avg", "uniform"
            ),
            return_sequences=True,
            name=name,
        )
        for name in names
    ]
    model = keras.Sequential(
        [
            keras.Input((pixels,)),
            kg.RateCoding(options.steps, RATE, test_steps=test_steps, seed=options.seed),
            *layers,
            keras.layers.GlobalAveragePooling1D(name="mean_rate"),
        ]
    )
    if variant.grapes:
        model = kg.propagate(model)
    model.compile(
        keras.optimizers.SGD(variant.learning_rate * options.learning_rate_factor),
        loss="mean_squared_error",
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    return model


def train(variant, dataset, options):
    """Trains one network and returns its `Result`."""
    import keras

    import keras_grapes as kg

    shape = (variant, dataset.train[0].shape[1], dataset.classes, options)
    labels = [
        keras.utils.to_categorical(y, dataset.classes) for _, y in (dataset.train, dataset.test)
    ]
    model = build_model(*shape, test_steps=options.steps)
    watch = kg.callbacks.FiringRate(dataset.test[0][:PROBED], batch_size=PROBED)
    start = time.perf_counter()
    report = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print(
            f"epoch {epoch + 1:>2}  loss {logs['loss']:.4f}  "
            f"test accuracy {100 * logs['val_accuracy']:.2f} %",
            flush=True,
        )
    )
    history = model.fit(
        dataset.train[0],
        labels[0],
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=(dataset.test[0], labels[1]),
        validation_batch_size=500,
        callbacks=[watch, report],
        verbose=0,
    ).history
    seconds = time.perf_counter() - start
    # The same weights, run for longer: the mean rates become more exact.
    tested = build_model(*shape, test_steps=options.test_steps)
    tested.set_weights(model.get_weights())
    result = tested.evaluate(dataset.test[0], labels[1], batch_size=250, verbose=0)
    return Result(
        variant, model, history["val_accuracy"], history["loss"], watch.rates, result[1], seconds
    )


def table(results, options):
    """The comparison as text."""
    steps = f"{options.test_steps} steps"
    lines = [
        f"{'':14}  test accuracy, {options.steps} steps  {steps:>10}  firing rates of the layers"
    ]
    for result in results:
        rates = "  ".join(f"{rates[-1]:.3f}" for rates in result.firing_rates.values())
        lines.append(
            f"{result.variant.title:14}  {100 * result.accuracy[-1]:>21.2f} %  "
            f"{100 * result.test_accuracy:>8.2f} %  {rates}"
        )
    return "\n".join(lines)


def figure(size, columns):
    figure = drawing.new_figure(size)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


# Okabe and Ito's colours; markers and dashes tell the curves apart in grey as well.
STYLES = (
    ("#000000", "o", ":"),
    ("#E69F00", "s", "--"),
    ("#0072B2", "^", "-"),
    ("#009E73", "D", "-."),
)


def finish(axes, x_label, y_label):
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_curves(results, title, path):
    """Saves test accuracy and training loss over the epochs."""
    from matplotlib.ticker import MaxNLocator

    picture, (accuracy, loss) = figure((10, 4.5), 2)
    for result, (color, marker, dashes) in zip(results, STYLES):
        epochs = range(1, len(result.loss) + 1)
        style = {"color": color, "marker": marker, "linestyle": dashes, "markersize": 5}
        accuracy.plot(epochs, result.accuracy, label=result.variant.title, **style)
        loss.plot(epochs, result.loss, **style)
    finish(accuracy, "epoch", "test accuracy")
    finish(loss, "epoch", "training loss (mean over the epoch)")
    accuracy.legend(loc="lower right")
    for axes in (accuracy, loss):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    picture.suptitle(title)
    picture.savefig(path, dpi=120)


def draw_rates(results, path):
    """Saves the mean firing rate of every layer over the epochs."""
    from matplotlib.ticker import MaxNLocator

    picture, panels = figure((12, 3.5), len(results))
    for result, axes in zip(results, panels):
        for number, (layer, rates) in enumerate(result.firing_rates.items()):
            # The output layer looks the same in all panels, however many are before it.
            color, marker, dashes = STYLES[-1 if layer == "output" else number]
            style = {"color": color, "marker": marker, "linestyle": dashes}
            axes.plot(range(1, len(rates) + 1), rates, label=layer, **style)
        finish(axes, "epoch", "mean output per time step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, None)
        axes.set_title(result.variant.title)
        axes.legend(fontsize="small")
    picture.savefig(path, dpi=120)


def draw_raster(result, image, label, path):
    """Saves the spikes of one image: those of the pixels and of every layer."""
    import keras
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    layers = result.model.layers[:-1]
    probe = keras.Model(result.model.inputs[0], [layer.output for layer in layers])
    trains = [np.asarray(spikes)[0] for spikes in probe(image[None])]
    names = ["pixels"] + [layer.name for layer in layers[1:]]
    picture, panels = figure((14, 4.5), len(trains))
    for name, spikes, axes in zip(names, trains, panels):
        times, units = np.nonzero(spikes)
        axes.scatter(times, units, marker="|", s=12, color="black", linewidths=1)
        axes.set_xlim(-1, len(spikes))
        axes.set_ylim(-1, spikes.shape[1])
        finish(axes, "time step", "unit")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(f"{name}, mean rate {spikes.mean():.3f}")
    picture.suptitle(
        f"Spikes of one image of class {label} in the network '{result.variant.title}'"
    )
    picture.savefig(path, dpi=120)


def parse(parser, arguments=None):
    parser.add_run_options(data.NAMES, "runs/spiking_comparison", EPOCHS, EPOCHS_ON_DIGITS)
    parser.add_argument(
        "--learning-rate-factor",
        type=command_line.positive_float,
        default=1.0,
        metavar="FACTOR",
        help="multiplies the learning rates, 0.5 (SNU) and 2 (sSNU); default: 1",
    )
    parser.add_argument(
        "--steps",
        type=command_line.positive_int,
        default=20,
        metavar="N",
        help="time steps in training, default: 20",
    )
    parser.add_argument(
        "--test-steps",
        type=command_line.positive_int,
        default=300,
        metavar="N",
        help="time steps in the last test, default: 300",
    )
    return parser.parse_run(arguments)


def main():
    # A silent layer belongs in the report, without a place in the code.
    warnings.showwarning = lambda message, *rest, **named: print(message, flush=True)
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    dataset = data.load_for(parser, options.dataset)
    command_line.import_backend()
    parser.settle_epochs(options, dataset)
    compare(dataset.flattened(), options)


def compare(dataset, options):
    """Trains every variant; prints the comparison and saves the pictures."""
    import keras_grapes as kg

    images, pixels = dataset.train[0].shape
    print(
        f"Data      {dataset.title}, {images} images to train on, {len(dataset.test[0])} to test on"
    )
    print(
        f"Coding    {options.steps} time steps, a pixel of 1 spikes with probability {RATE} a step"
    )
    print(f"Training  SGD, batches of {BATCH_SIZE}, {options.epochs} epochs, seed {options.seed}")

    results = []
    for number, variant in enumerate(VARIANTS, start=1):
        sizes = [pixels, *[UNITS] * variant.hidden_layers, dataset.classes]
        rate = variant.learning_rate * options.learning_rate_factor
        network = "-".join(map(str, sizes))
        print(f"\n{number}/{len(VARIANTS)} {variant.title}: {network}, learning rate {rate:g}")
        results.append(train(variant, dataset, options))
        print(f"{results[-1].seconds:.0f} s")

    print(f"\nAfter epoch {options.epochs}:\n\n{table(results, options)}")
    print("\nThe spiking network with GRAPES, as `kg.summary` shows it:\n")
    print(kg.summary(results[1].model))
    print(
        "\nA layer with an error gain of 2 learns as if from twice the learning rate. That is part "
        "of\nthe difference: compare with plain training at a larger --learning-rate-factor."
    )
    title = f"{dataset.title}, rate coded, {options.steps} time steps, seed {options.seed}"
    draw_curves(results, title, options.output / "learning_curves.png")
    draw_rates(results, options.output / "firing_rates.png")
    image, label = dataset.test[0][0], dataset.test[1][0]
    draw_raster(results[1], image, label, options.output / "raster.png")
    print(f"\nLearning curves, firing rates and a raster of spikes: {options.output}")


if __name__ == "__main__":
    command_line.run(main)
