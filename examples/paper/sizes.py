"""How much a run computes, for the progress bar and the estimate of the time."""

import itertools
import math

# Pixels, classes, training and test images.
DATASETS = {
    "mnist": (784, 10, 60_000, 10_000),
    "fashion_mnist": (784, 10, 60_000, 10_000),
    "emnist": (784, 26, 124_800, 20_800),
    "cifar10": (3072, 10, 50_000, 10_000),
    "cifar100": (3072, 100, 50_000, 10_000),
    "digits": (64, 10, 1437, 360),
}
# In a forward pass over an image of 32x32, with 64 filters in the first convolution.
_RESIDUAL = 380_000_000
# Likewise, of 28x28.
_SMALL = {"convolutional": 800_000, "recurrent": 28 * 4 * 64 * (28 + 64)}


def multiplications_per_image(settings):
    """Multiplications of a training step, by the image."""
    pixels, classes, _, _ = DATASETS[settings.dataset]
    if settings.network == "residual":
        return 3 * _RESIDUAL * (settings.filters / 64) ** 2
    if settings.network in _SMALL:
        return 3 * _SMALL[settings.network]
    sizes = (pixels, *settings.hidden, classes)
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    if settings.network != "dense":
        # Its steps are many small operations more than multiplications.
        return 3 * settings.steps * (weights + 100_000)
    # Forward, error and update; a modulated step looks at every weight once more.
    modulation = 0 if settings.arm == "plain" else 16 * weights / settings.batch_size
    return 3 * weights + modulation


def multiplications(settings):
    """Multiplications of an epoch and the test after it."""
    _, _, train, test = DATASETS[settings.dataset]
    validation = settings.validation_examples
    train = min(train - validation, settings.train_examples or math.inf)
    test = min(test, settings.test_examples or math.inf) * max(1, settings.tasks)
    if settings.network in ("SNU", "SSNU"):
        test *= settings.test_steps / settings.steps
    return multiplications_per_image(settings) * (train + (test + validation) / 3)
