"""The data sets of the examples, as arrays in memory.

Prepared TensorFlow Datasets are read where they lie, without network. What is not there is
downloaded, if its host answers a short question first.
"""

import contextlib
import dataclasses
import os
import pathlib
import threading
import urllib.parse

from examples import command_line

# Seconds that the host of a download has to answer in. Without network the whole decision has to
# fall while a user still waits.
PROBE_SECONDS = 4

# Name: title, a small file of its download to ask for.
_DOWNLOADS = {
    "mnist": (
        "MNIST",
        "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
    ),
    "fashion_mnist": (
        "Fashion-MNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
    ),
    "emnist": ("EMNIST letters", "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"),
    "cifar10": ("CIFAR-10", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),
    "cifar100": ("CIFAR-100", "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"),
}
# Where TensorFlow Datasets has it under another name.
_TFDS_NAMES = {"emnist": "emnist/letters"}
_CLASSES = {"emnist": 26, "cifar100": 100}
# What the examples offer; the experiments of the paper need the others too.
NAMES = ("mnist", "fashion_mnist", "digits")
ALL_NAMES = (*_DOWNLOADS, "digits")


class UnavailableError(Exception):
    """A data set is neither on this machine nor to be had; the message says why, in one line.

    Args:
        reason: String, the message.
        remedy: String, what to do about it.
    """

    def __init__(self, reason, remedy="Set TFDS_DATA_DIR to a folder that has it"):
        super().__init__(reason)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels to train on and to test on.

    Args:
        name: String, one of `ALL_NAMES`.
        title: String, the name to print.
        train: Pair of arrays: images, float32 in [0, 1], of shape
            `(examples, height, width, channels)`, and labels, int64, of shape `(examples,)`.
        test: Likewise.
        classes: Int, number of classes.
    """

    name: str
    title: str
    train: tuple
    test: tuple
    classes: int = 10

    def flattened(self):
        """Returns the same data set with images of shape `(examples, pixels)`."""
        parts = {
            name: (images.reshape(len(images), -1), labels)
            for name, (images, labels) in (("train", self.train), ("test", self.test))
        }
        return dataclasses.replace(self, **parts)


def load(name):
    """Loads a data set, from this machine if it is there, else from its host.

    Args:
        name: String, one of `ALL_NAMES`.

    Returns:
        A `Dataset`.

    Raises:
        UnavailableError: If it is not on this machine and cannot be downloaded.
    """
    return _load_digits() if name == "digits" else _load_from_tfds(name)


def load_default():
    """Loads MNIST or, with a line that says so, the digits that scikit-learn brings along."""
    try:
        return load("mnist")
    except UnavailableError as error:
        print(f"{error} Using scikit-learn's handwritten digits instead.")
        return load("digits")


def load_for(parser, name):
    """Loads the data set of an option `--dataset`, or the default; refuses what cannot be had.

    Args:
        parser: A `command_line.Parser`.
        name: String, one of `NAMES`, or `None` for the default.

    Returns:
        A `Dataset`.
    """
    try:
        return load(name) if name else load_default()
    except UnavailableError as error:
        parser.error(f"{error} {error.remedy}, or use --dataset digits.")


def _load_digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = (bunch.images[..., None] / 16).astype("float32")
    # One split for all seeds: a seed is for the network and the order of the data.
    train_x, test_x, train_y, test_y = train_test_split(
        images, bunch.target, test_size=0.2, random_state=0, stratify=bunch.target
    )
    return Dataset("digits", "scikit-learn digits", (train_x, train_y), (test_x, test_y))


def check(name):
    """Raises an `UnavailableError` if a data set can be had neither here nor from its host."""
    if name == "digits":
        return
    title, url = _DOWNLOADS[name]
    if not command_line.is_installed("tensorflow", "tensorflow_datasets"):
        raise UnavailableError(
            f"{title} is read by tensorflow-datasets and TensorFlow, which are not installed.",
            "Install them",
        )
    if prepared_folder(name):
        return
    if not answers(url):
        raise UnavailableError(
            f"{title} is not in {tfds_folder()} (TFDS_DATA_DIR) and "
            f"{urllib.parse.urlsplit(url).netloc} does not answer."
        )


def _load_from_tfds(name):
    title = _DOWNLOADS[name][0]
    check(name)
    import tensorflow_datasets as tfds
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    folder = prepared_folder(name)
    # Only now, as it takes seconds: the decision has fallen.
    command_line.import_tensorflow()
    try:
        if folder is None:
            builder = tfds.builder(_TFDS_NAMES.get(name, name))
            # Its own copy in Google storage is tried for minutes where that is out of reach.
            config = tfds.download.DownloadConfig(try_download_gcs=False)
            builder.download_and_prepare(download_config=config)
        else:
            builder = tfds.builder_from_directory(folder)
        train, test = (
            (part["image"].astype("float32") / 255, part["label"])
            for part in tfds.as_numpy(builder.as_dataset(split=["train", "test"], batch_size=-1))
        )
    except Exception as error:  # Whatever it is: the data cannot be had.
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        doing = "downloaded" if folder is None else f"read from {folder}"
        raise UnavailableError(
            f"{title} cannot be {doing} ({type(error).__name__}: {reason})."
        ) from error
    if name == "emnist":
        # Its letters count from 1.
        train, test = ((images, labels - 1) for images, labels in (train, test))
    return Dataset(name, title, train, test, _CLASSES.get(name, 10))


def tfds_folder():
    """Returns the folder in which TensorFlow Datasets keeps its data sets."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def prepared_folder(name):
    """Returns the folder of a data set that is ready to be read, `None` if there is none."""
    found = sorted(
        (tfds_folder() / _TFDS_NAMES.get(name, name)).glob("[0-9]*.*.*/dataset_info.json")
    )
    return found[-1].parent if found else None


def answers(url, seconds=None):
    """Whether a file can be had from its host, found out within `seconds`.

    Args:
        url: String. Proxies and certificates are taken from the environment, as by the download.
        seconds: Float. Defaults to `None`, which is `PROBE_SECONDS`.
    """
    import requests

    seconds = PROBE_SECONDS if seconds is None else seconds
    found = []

    def ask():
        with contextlib.suppress(requests.RequestException):
            found.append(requests.head(url, timeout=seconds, allow_redirects=True).ok)

    # In a thread, as no timeout ends a name server's silence.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return any(found)
