"""What a run is: every setting that its result hangs on, in one value that can be recorded."""

import dataclasses

from examples import data
from examples.paper import sizes

# The 2 x 2 design: what of GRAPES each arm keeps, as arguments of `kg.Modulation`.
ARMS = {
    "plain": None,
    "GRAPES": {},
    "mean only": {"granularity": "layer"},
    "pattern only": {"unit_mean": True},
}
PAPER_ARMS = ("plain", "GRAPES")

# What a setting may be: an unknown value would train something else than what is recorded.
CHOICES = {
    "dataset": data.ALL_NAMES,
    "network": ("dense", "SNU", "SSNU", "residual", "convolutional", "recurrent"),
    "activation": ("relu", "tanh"),
    "output": ("softmax", "sigmoid"),
    "deformation": ("", "affine", "elastic", "affine and elastic"),
    "rule": ("BP", "FA", "DFA", "IFA", "SF"),
    "arm": tuple(ARMS),
    "version": ("propagating", "local"),
    "optimizer": ("SGD", "momentum", "Nesterov", "RMSprop", "Adam"),
    "reset": ("gate", "soft", "subtract", "none"),
}
PROBES = ("modulation", "weights")
# Settings that only some networks read, and which.
_OF_NETWORK = {
    "hidden": ("dense", "SNU", "SSNU"),
    "activation": ("dense",),
    "output": ("dense",),
    "bias": ("dense", "residual"),
    "dropout": ("dense", "residual"),
    "deformation": ("dense",),
    "steps": ("SNU", "SSNU"),
    "test_steps": ("SNU", "SSNU"),
    "reset": ("SNU", "SSNU"),
    "filters": ("residual",),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run of one configuration.

    Args:
        dataset: String, a name of `examples.data`.
        train_examples: Int, how many training images to take, the first ones; `None` for all.
        test_examples: Likewise.
        validation_examples: Int, how many of the last training images are held out, to choose
            learning rates and epochs on; 0 for none.
        network: String, of `CHOICES`, as all strings.
        hidden: Tuple of ints, the units of the hidden layers.
        activation: String, of the hidden layers. He's initialization goes with ReLU, Glorot's with
            the others.
        output: String, `"softmax"` with the categorical or `"sigmoid"` with the binary
            cross-entropy.
        bias: Bool. The authors' code has no biases, their text does not say.
        dropout: Float, rate of dropout after every hidden layer.
        deformation: String, of the training images.
        rule: String, by which errors reach the hidden layers.
        arm: String, a key of `ARMS`.
        version: String, how back-propagation is modulated: `"propagating"` or `"local"`.
        bounds: Tuple of two floats, the interval of the factors.
        optimizer: String.
        learning_rate: Float.
        raised_rate: Bool, whether plain training takes the learning rate times the mean of the
            factors that GRAPES would begin with.
        decay_every: Int, epochs after which the learning rate falls to a tenth; 0 for never.
        batch_size: Int.
        epochs: Int, of each task where there are several.
        tasks: Int, number of permuted tasks learned one after the other; 0 for the plain data.
        permuted_pixels: Int, how many pixels a task permutes; `None` for all.
        steps: Int, time steps of the rate code in training, of spiking networks.
        test_steps: Int, likewise in tests.
        filters: Int, of the first convolution of the residual network; the others have 2, 4 and 8
            times as many.
        reset: String, what a spike leaves of the membrane potential of a spiking unit.
        bits: Int, precision of the weights; `None` for float32.
        noise: Float, standard deviation of the noise on each update, by the range of the weights.
        record: Tuple of strings of `PROBES`, what to record besides accuracy and loss.
        seed: Int, of the initial weights, the order of the data and the permutations.

    Raises:
        ValueError: If a setting has no such value, or nothing of the run reads it.
    """

    dataset: str = "mnist"
    train_examples: int | None = None
    test_examples: int | None = None
    validation_examples: int = 0
    network: str = "dense"
    hidden: tuple = (256, 256, 256, 256)
    activation: str = "relu"
    output: str = "softmax"
    bias: bool = False
    dropout: float = 0.0
    deformation: str = ""
    rule: str = "BP"
    arm: str = "plain"
    version: str = "propagating"
    bounds: tuple = (1.0, 2.0)
    optimizer: str = "SGD"
    learning_rate: float = 0.001
    raised_rate: bool = False
    decay_every: int = 0
    batch_size: int = 64
    epochs: int = 1
    tasks: int = 0
    permuted_pixels: int | None = None
    steps: int = 20
    test_steps: int = 300
    filters: int = 64
    reset: str = "gate"
    bits: int | None = None
    noise: float = 0.0
    record: tuple = ()
    seed: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # As JSON has it.
                object.__setattr__(self, field.name, tuple(value))
        for name, choices in CHOICES.items():
            _check(name, getattr(self, name), choices)
        for name in self.record:
            _check("record", name, PROBES)
        for field in dataclasses.fields(self):
            networks = _OF_NETWORK.get(field.name, CHOICES["network"])
            if self.network not in networks and getattr(self, field.name) != field.default:
                raise ValueError(
                    f"network={self.network!r} does not read {field.name}. Received: "
                    f"{field.name}={getattr(self, field.name)!r}; leave it at its default"
                )
        if self.rule != "BP" and self.version == "local":
            raise ValueError(f"rule={self.rule!r} has no local version")
        if self.raised_rate and self.arm != "plain":
            raise ValueError(f"raised_rate is of plain training. Received: arm={self.arm!r}")
        if self.tasks and self.validation_examples:
            raise ValueError("validation_examples: a sequence of tasks holds out none")

    @property
    def configuration(self):
        """The settings without the seed."""
        return dataclasses.replace(self, seed=0)

    @property
    def program(self):
        """What a compiled training program hangs on: the settings without those it is given."""
        if self.bits or self.noise:
            # The random numbers of constraints go on from run to run: each has its own program.
            return self
        given = {"learning_rate": 0.0, "raised_rate": False, "decay_every": 0, "epochs": 0}
        return dataclasses.replace(self, seed=0, **given)

    @property
    def label(self):
        """The arm, with what else tells it from others of its configuration."""
        return f"{self.arm}, raised rate" if self.raised_rate else self.arm

    @property
    def all_epochs(self):
        return self.epochs * max(1, self.tasks)

    @property
    def title(self):
        """Hidden layers as the paper writes them, `"10x256 tanh"`."""
        if self.network not in _OF_NETWORK["hidden"]:
            return self.network
        widths = sorted(set(self.hidden))
        layers = f"{len(self.hidden)}x{widths[0]}" if len(widths) == 1 else str(self.hidden)
        if self.network != "dense":
            return f"{layers} {self.network}"
        return f"{layers} {'ReLU' if self.activation == 'relu' else self.activation}"

    def to_dict(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """Returns recorded settings; `None` where they have what this version does not know."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**values) if set(values) <= known else None


def _check(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}. Received: {name}={value!r}")


def vary(base, **choices):
    """Lists `base` with every combination of the values, the last name varying fastest."""
    found = [base]
    for name, values in choices.items():
        found = [dataclasses.replace(s, **{name: value}) for s in found for value in values]
    return found


def design(settings, arms, versions=("propagating",)):
    """Lists settings with every arm, the modulated ones in every version, each once."""
    found = []
    for base in settings:
        for arm in arms:
            # Plain training has no versions.
            for version in versions if ARMS[arm] is not None else versions[:1]:
                found.append(dataclasses.replace(base, arm=arm, version=version))
    return found


def of_scale(scale, **more):
    """`Settings` of the data and the epochs of a study's scale."""
    names = ("dataset", "train_examples", "test_examples", "validation_examples", "epochs")
    chosen = {name: value for name, value in vars(scale).items() if name in names}
    return held_out(Settings(), scale, **{**chosen, **more})


def held_out(base, scale, **changes):
    """`base` with changes, and with the validation images of a scale, of few images a sixth."""
    settings = dataclasses.replace(base, **{**changes, "validation_examples": 0})
    wanted = getattr(scale, "validation_examples", 0)
    most = sizes.DATASETS[settings.dataset][2] // 6
    return dataclasses.replace(settings, validation_examples=min(wanted, most))
