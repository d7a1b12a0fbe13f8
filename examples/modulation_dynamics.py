"""Shows how the modulation factors of a deep network evolve during training.

    python examples/modulation_dynamics.py --epochs 20
    python examples/modulation_dynamics.py --method local --learning-rate 0.05

A tanh network of ten hidden layers of 256 units with 10 % dropout, as in the paper's Fig. 3, is
trained with GRAPES, propagating or local. `fig3a.png` shows the mean factor of every layer over the
epochs, `fig3b.png` the distribution of the factors of every layer before and after training.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data

HIDDEN_LAYERS = 10
HIDDEN_UNITS = 256
DROPOUT = 0.1
BATCH_SIZE = 64
EPOCHS = 20
EPOCHS_ON_DIGITS = 50
# Ten factors of about 1.75 multiply on the way to the first layer: the rate of the propagating
# version is smaller by as much as training stands.
LEARNING_RATES = {"propagating": 0.001, "local": 0.05}


def build_model(pixels, classes):
    """A fully connected tanh network."""
    import keras

    layers = [keras.Input((pixels,))]
    for number in range(1, HIDDEN_LAYERS + 1):
        layers.append(keras.layers.Dense(HIDDEN_UNITS, "tanh", name=f"hidden_{number}"))
        layers.append(keras.layers.Dropout(DROPOUT))
    layers.append(keras.layers.Dense(classes, "softmax", name="output"))
    return keras.Sequential(layers)


def train(dataset, options):
    """Trains the network; returns the model, its `ModulationHistory` and its learning curve."""
    import keras

    import keras_grapes as kg

    keras.utils.set_random_seed(options.seed)
    model = build_model(dataset.train[0].shape[1], dataset.classes)
    optimizer = keras.optimizers.SGD(options.learning_rate)
    if options.method == "propagating":
        model = kg.propagate(model)
    else:
        optimizer = kg.Grapes(optimizer, model=model)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    print(kg.summary(model), end="\n\n")

    modulation = kg.callbacks.ModulationHistory(log=())
    history = model.fit(
        *dataset.train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=dataset.test,
        callbacks=[modulation],
        verbose=2,
    ).history
    return modulation, history["val_accuracy"]


def table(modulation):
    """The factors before and after training as text."""
    epochs = modulation.records[-1]
    lines = [
        f"{'':10}  {'before training':^27}  {f'after epoch {epochs}':^27}",
        f"{'layer':10}" + "  {:>7}  {:>7}  {:>9}".format("mean", "std", "at floor") * 2,
    ]
    for name, statistics in modulation.history.items():
        line = f"{name:10}"
        for record in (0, -1):
            mean, std, at_floor = (statistics[key][record] for key in ("mean", "std", "at_floor"))
            line += f"  {mean:7.3f}  {std:7.3f}  {at_floor:9.1%}"
        lines.append(line)
    return "\n".join(lines)


def parse(parser, arguments=None):
    parser.add_run_options(data.NAMES, "runs/modulation_dynamics", EPOCHS, EPOCHS_ON_DIGITS)
    parser.add_argument(
        "--method",
        choices=tuple(LEARNING_RATES),
        default="propagating",
        help="modulate the error or, local, the update alone; default: propagating",
    )
    parser.add_argument(
        "--learning-rate",
        type=command_line.positive_float,
        metavar="RATE",
        help="of plain SGD, default: "
        + ", ".join(f"{rate} ({method})" for method, rate in LEARNING_RATES.items()),
    )
    options = parser.parse_run(arguments)
    if options.learning_rate is None:
        options.learning_rate = LEARNING_RATES[options.method]
    return options


def main():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    dataset = data.load_for(parser, options.dataset).flattened()
    command_line.import_backend()
    parser.settle_epochs(options, dataset)
    show(dataset, options)


def show(dataset, options):
    """Trains the network; prints its factors and saves the pictures."""
    import matplotlib

    # Pictures are saved, not shown.
    matplotlib.use("agg")
    images, pixels = dataset.train[0].shape
    network = f"{HIDDEN_LAYERS} x {HIDDEN_UNITS} tanh"
    run = f"{dataset.title}, {network}, {options.method}, SGD {options.learning_rate:g}"
    print(f"Data       {dataset.title}, {images} images, {len(dataset.test[0])} to test on")
    print(f"Network    {pixels} inputs, {network}, dropout {DROPOUT:.0%}")
    print(
        f"Optimizer  SGD, learning rate {options.learning_rate:g}, GRAPES {options.method}, "
        f"batches of {BATCH_SIZE}, {options.epochs} epochs"
    )
    print(f"Seed       {options.seed}\n")

    modulation, accuracy = train(dataset, options)
    print(f"\nTest accuracy {accuracy[-1]:.2%}. Modulation factors:\n\n{table(modulation)}")
    for panel, name in (("mean", "fig3a.png"), ("distribution", "fig3b.png")):
        figure = modulation.plot(panel)
        figure.suptitle(f"{run}, seed {options.seed}", fontsize="medium")
        figure.savefig(options.output / name, dpi=150)
    print(f"\nPictures: {options.output / 'fig3a.png'} and fig3b.png")


if __name__ == "__main__":
    command_line.run(main)
