"""Compares back-propagation with FA, DFA and IFA, each with and without GRAPES.

    python examples/feedback_alignment.py
    python examples/feedback_alignment.py --dataset fashion_mnist --epochs 5

All eight start from the same weights and see the data in the same order; the three rules have the
same feedback with and without GRAPES. A table compares their test accuracy after the last epoch,
and pictures show the learning curves and how the updates of the rules align with those of
back-propagation.
"""

import dataclasses
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data, drawing

HIDDEN_UNITS = (256, 256, 256)
BATCH_SIZE = 64
# Examples on which the angles are measured.
ANGLE_EXAMPLES = 512
EPOCHS = 3
EPOCHS_ON_DIGITS = 15
# A rate that all eight stand.
LEARNING_RATE = 0.02

# Okabe and Ito's colours.
COLORS = {"BP": "#000000", "FA": "#E69F00", "DFA": "#0072B2", "IFA": "#009E73"}


@dataclasses.dataclass(frozen=True)
class Result:
    """What training by one rule gave; the lists have one entry an epoch.

    Args:
        rule: String, a key of `COLORS`.
        grapes: Bool.
        test_accuracy: List of floats.
        training_loss: List of floats.
        seconds: List of floats.
        alignment: The `AlignmentAngle` of the rule, `None` for back-propagation.
    """

    rule: str
    grapes: bool
    test_accuracy: list
    training_loss: list
    seconds: list
    alignment: object

    @property
    def name(self):
        return f"{self.rule} + GRAPES" if self.grapes else self.rule


def build_model(pixels, classes, seed):
    """A fully connected tanh network; the same seed gives the same weights."""
    import keras

    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(units, activation="tanh", name=f"hidden_{number}")
        for number, units in enumerate(HIDDEN_UNITS, start=1)
    ]
    output = keras.layers.Dense(classes, activation="softmax", name="output")
    return keras.Sequential([keras.Input((pixels,)), *hidden, output])


def apply_rule(model, rule, grapes, seed):
    """Returns the model that trains `model` by a rule."""
    import keras_grapes as kg

    if rule == "BP":
        return kg.propagate(model) if grapes else model
    rules = {
        "FA": kg.FeedbackAlignment,
        "DFA": kg.DirectFeedbackAlignment,
        "IFA": kg.IndirectFeedbackAlignment,
    }
    return rules[rule](model, modulation=grapes, seed=seed)


def train(rule, grapes, dataset, options):
    """Trains the network by a rule and returns the `Result`."""
    import keras

    import keras_grapes as kg

    model = build_model(dataset.train[0].shape[1], dataset.classes, options.seed)
    model = apply_rule(model, rule, grapes, options.seed)
    model.compile(
        keras.optimizers.SGD(options.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    marks, alignment = [], None
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: marks.append(-time.perf_counter()),
            on_epoch_end=lambda epoch, logs: marks.append(marks.pop() + time.perf_counter()),
        )
    ]
    if rule != "BP":
        alignment = kg.callbacks.AlignmentAngle(*(part[:ANGLE_EXAMPLES] for part in dataset.train))
        callbacks.append(alignment)
    # Once more, so that the order of the data does not hang on what building has drawn.
    keras.utils.set_random_seed(options.seed)
    history = model.fit(
        *dataset.train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=dataset.test,
        callbacks=callbacks,
        verbose=0,
    ).history
    return Result(rule, grapes, history["val_accuracy"], history["loss"], marks, alignment)


def table(results):
    """The comparison as text."""
    names = [f"hidden_{number}" for number in range(1, len(HIDDEN_UNITS) + 1)]
    lines = [
        f"{'':12}  test accuracy  training loss  seconds per epoch  angle to BP in "
        + ", ".join(names)
    ]
    for result in results:
        line = f"{result.name:12}  {f'{100 * result.test_accuracy[-1]:.2f} %':>13}"
        line += f"  {result.training_loss[-1]:>13.4f}"
        # The first epoch traces the model, and counts if it is the only one.
        line += f"  {statistics.median(result.seconds[1:] or result.seconds):>17.2f}"
        if result.alignment is not None:
            angles = [result.alignment.angles[name][-1] for name in names]
            line += "  " + "  ".join(f"{angle:5.1f}" for angle in angles)
        if not result.training_loss[-1] < float("inf"):
            line += "  diverged: choose a smaller --learning-rate"
        lines.append(line)
    return "\n".join(lines)


def new_figure(columns, title):
    figure = drawing.new_figure((5 * columns, 4.5))
    figure.suptitle(title)
    return figure


def draw_learning_curves(results, title, path):
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = new_figure(2.4, title)
    accuracy, loss = figure.subplots(1, 2)
    for result in results:
        epochs = range(1, len(result.seconds) + 1)
        style = {
            "color": COLORS[result.rule],
            "linestyle": "-" if result.grapes else "--",
            "marker": "o" if result.grapes else "s",
            "markersize": 4,
        }
        accuracy.plot(epochs, result.test_accuracy, label=result.name, **style)
        loss.plot(epochs, result.training_loss, **style)
    accuracy.set_ylabel("test accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    loss.set_ylabel("training loss (mean over the epoch)")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right upper")
    for axes in (accuracy, loss):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def draw_angles(results, title, path):
    measured = [result for result in results if result.alignment is not None]
    figure = new_figure(3, title)
    rows = figure.subplots(2, 3, sharex=True, sharey=True)
    for result, axes in zip(measured, rows.T.flat):
        result.alignment.plot("angle", axes)
        axes.set_title(result.name)
        axes.set_ylim(0, 100)
        axes.set_ylabel("angle to BP (degrees)")
    figure.savefig(path, dpi=120)


def parse(parser, arguments=None):
    parser.add_run_options(data.NAMES, "runs/feedback_alignment", EPOCHS, EPOCHS_ON_DIGITS)
    parser.add_argument(
        "--learning-rate",
        type=command_line.positive_float,
        default=LEARNING_RATE,
        metavar="RATE",
        help=f"of plain SGD, default: {LEARNING_RATE}",
    )
    return parser.parse_run(arguments)


def main():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    dataset = data.load_for(parser, options.dataset).flattened()
    command_line.import_backend()
    parser.settle_epochs(options, dataset)
    compare(dataset, options)


def compare(dataset, options):
    """Trains by every rule; prints the comparison and saves the pictures."""
    sizes = (dataset.train[0].shape[1], *HIDDEN_UNITS, dataset.classes)
    network = "-".join(str(size) for size in sizes) + " tanh"
    optimizer = f"SGD, learning rate {options.learning_rate:g}"
    images, test_images = len(dataset.train[0]), len(dataset.test[0])
    print(f"Data       {dataset.title}, {images} images to train on and {test_images} to test on")
    print(f"Network    {network}")
    print(f"Optimizer  {optimizer}, batches of {BATCH_SIZE}, {options.epochs} epochs")
    print(f"Seed       {options.seed}: the same initial weights and order of the data every time\n")

    results = []
    for rule in COLORS:
        for grapes in (False, True):
            results.append(train(rule, grapes, dataset, options))
            accuracy = results[-1].test_accuracy[-1]
            print(f"{len(results)}/8 {results[-1].name}: test accuracy {accuracy:.2%}", flush=True)

    print(f"\nAfter epoch {options.epochs}:\n\n{table(results)}")
    print(
        "\nGRAPES raises the mean learning rate of the hidden layers as well. That is part of the "
        "difference:\ncompare with plain training at a larger --learning-rate, or see "
        "`kg.Modulation(unit_mean=True)`."
    )
    title = f"{dataset.title}, {network}, {optimizer}, seed {options.seed}"
    for draw, name in (
        (draw_learning_curves, "learning_curves.png"),
        (draw_angles, "alignment_angles.png"),
    ):
        draw(results, title, options.output / name)
    print(f"\nPictures: {options.output / 'learning_curves.png'} and alignment_angles.png")


if __name__ == "__main__":
    command_line.run(main)
