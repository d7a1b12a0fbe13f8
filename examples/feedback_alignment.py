"""Compares back-propagation with feedback rules, each with and without GRAPES.

    python examples/feedback_alignment.py
    python examples/feedback_alignment.py --dataset fashion_mnist --epochs 5
    python examples/feedback_alignment.py --network residual
    python examples/feedback_alignment.py --network spiking

On the fully connected network these are FA, DFA and IFA; on the residual and the spiking network
FA, DFA and sign-concordant feedback (SF). All eight start from the same weights and see the data in
the same order; the rules have the same feedback with and without GRAPES. A table compares their
test accuracy after the last epoch, and pictures show the learning curves and how the updates of the
rules align with those of back-propagation.
"""

import dataclasses
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data, drawing, feedback_networks

HIDDEN_UNITS = (256, 256, 256)
BATCH_SIZE = 64
# Examples on which the angles are measured.
ANGLE_EXAMPLES = 512
EPOCHS = 3
EPOCHS_ON_DIGITS = 15
NETWORKS = ("dense", "residual", "spiking")

# Okabe and Ito's colours.
COLORS = {"BP": "#000000", "FA": "#E69F00", "DFA": "#0072B2", "IFA": "#009E73", "SF": "#CC79A7"}


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


def make_network(name):
    """Returns the `feedback_networks.Network` of a name."""
    if name == "dense":
        return feedback_networks.dense(HIDDEN_UNITS)
    return getattr(feedback_networks, name)()


def apply_rule(model, rule, grapes, seed):
    """Returns the model that trains `model` by a rule."""
    import keras_grapes as kg

    if rule == "BP":
        return kg.propagate(model) if grapes else model
    rules = {
        "FA": kg.FeedbackAlignment,
        "DFA": kg.DirectFeedbackAlignment,
        "IFA": kg.IndirectFeedbackAlignment,
        "SF": kg.SignConcordantFeedback,
    }
    modulation = kg.Modulation() if grapes else None
    return rules[rule](model, modulation=modulation, seed=seed)


def train(rule, grapes, network, dataset, options):
    """Trains the network by a rule and returns the `Result`."""
    import keras

    import keras_grapes as kg

    def targets(labels):
        return keras.utils.to_categorical(labels, dataset.classes) if one_hot else labels

    one_hot = network.loss == "mse"
    (images, labels), (test_images, test_labels) = dataset.train, dataset.test
    training, test = (images, targets(labels)), (test_images, targets(test_labels))
    keras.utils.set_random_seed(options.seed)
    model = network.build(images.shape[1:], dataset.classes)
    model = apply_rule(model, rule, grapes, options.seed)
    model.compile(
        keras.optimizers.SGD(options.learning_rate),
        loss=network.loss,
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
        alignment = kg.callbacks.AlignmentAngle(*(part[:ANGLE_EXAMPLES] for part in training))
        callbacks.append(alignment)
    # Once more, so that the order of the data does not hang on what building has drawn.
    keras.utils.set_random_seed(options.seed)
    history = model.fit(
        *training,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=test,
        callbacks=callbacks,
        verbose=0,
    ).history
    return Result(rule, grapes, history["val_accuracy"], history["loss"], marks, alignment)


def table(results):
    """The comparison as text."""
    names = _layers_to_show(results)
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


def _layers_to_show(results):
    """Names of the hidden layers, of many the first, the middle and the last."""
    names = next(list(one.alignment.angles) for one in results if one.alignment is not None)
    return names if len(names) <= 3 else [names[0], names[len(names) // 2], names[-1]]


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
        "--network", choices=NETWORKS, default="dense", help="to train, default: dense"
    )
    parser.add_argument(
        "--learning-rate",
        type=command_line.positive_float,
        metavar="RATE",
        help="of plain SGD, default: one that all rules stand on the network",
    )
    return parser.parse_run(arguments)


def main():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    dataset = data.load_for(parser, options.dataset)
    command_line.import_tensorflow()
    parser.settle_epochs(options, dataset)
    compare(dataset, options)


def compare(dataset, options):
    """Trains by every rule; prints the comparison and saves the pictures."""
    network = make_network(options.network)
    if options.learning_rate is None:
        options.learning_rate = network.learning_rate
    optimizer = f"SGD, learning rate {options.learning_rate:g}"
    images, test_images = len(dataset.train[0]), len(dataset.test[0])
    print(f"Data       {dataset.title}, {images} images to train on and {test_images} to test on")
    print(f"Network    {network.title}")
    print(f"Optimizer  {optimizer}, batches of {BATCH_SIZE}, {options.epochs} epochs")
    print(f"Seed       {options.seed}: the same initial weights and order of the data every time\n")

    results = []
    for rule in network.rules:
        for grapes in (False, True):
            results.append(train(rule, grapes, network, dataset, options))
            accuracy = results[-1].test_accuracy[-1]
            print(f"{len(results)}/8 {results[-1].name}: test accuracy {accuracy:.2%}", flush=True)

    print(f"\nAfter epoch {options.epochs}:\n\n{table(results)}")
    print(
        "\nGRAPES raises the mean learning rate of the hidden layers as well. That is part of the "
        "difference:\ncompare with plain training at a larger --learning-rate, or see "
        "`kg.Modulation(unit_mean=True)`."
    )
    title = f"{dataset.title}, {network.title}, {optimizer}, seed {options.seed}"
    for draw, name in (
        (draw_learning_curves, "learning_curves.png"),
        (draw_angles, "alignment_angles.png"),
    ):
        draw(results, title, options.output / name)
    print(f"\nPictures: {options.output / 'learning_curves.png'} and alignment_angles.png")


if __name__ == "__main__":
    command_line.run(main)
