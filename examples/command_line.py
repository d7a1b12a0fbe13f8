"""What the command lines of the examples share: errors of one line, checked before any work.

Only Python's own modules are imported before the options are found right, so that a wrong one is
refused at once, and what is not installed is named.
"""

import argparse
import importlib
import importlib.util
import json
import math
import os
import pathlib
import sys
import tempfile

# What the extra installs. Without TensorFlow there are the data of scikit-learn alone.
_MODULES = ("matplotlib", "sklearn")
_MODULES_ON_TENSORFLOW = ("tensorflow_datasets", "tqdm")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that refuses a wrong option in one line, with exit status 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def add_run_options(self, datasets, folder, epochs, epochs_on_digits):
        """Adds the options that every experiment has.

        Args:
            datasets: Tuple of strings, the names of the data sets.
            folder: String, the default of `--output`.
            epochs: Int, the default that `settle_epochs` sets.
            epochs_on_digits: Int, likewise for the small data set.
        """
        self._default_epochs = (epochs, epochs_on_digits)
        self.add_argument(
            "--dataset", choices=datasets, help="default: mnist, else digits if it is out of reach"
        )
        self.add_argument(
            "--epochs",
            type=positive_int,
            metavar="N",
            help=f"default: {epochs}, on digits {epochs_on_digits}",
        )
        self.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
        self.add_argument(
            "--output",
            type=folder_path,
            default=folder,
            metavar="FOLDER",
            help=f"folder of the results, default: {folder}",
        )

    def parse_run(self, arguments=None):
        """Parses the options of an experiment and makes sure that it can run with them."""
        options = self.parse_args(arguments)
        self.require_modules()
        self.make_folder(options.output)
        return options

    def settle_epochs(self, options, dataset):
        """Sets the number of epochs, where the options do not say it, by the data set."""
        if options.epochs is None:
            epochs, epochs_on_digits = self._default_epochs
            options.epochs = epochs_on_digits if dataset.name == "digits" else epochs

    def add_counts(self, *counts):
        """Adds options that are positive ints, each a tuple of name, default and help."""
        for name, default, text in counts:
            self.add_argument(
                name,
                type=positive_int,
                default=default,
                metavar="N",
                help=f"{text}, default: {default}",
            )

    def require_modules(self):
        """Refuses to go on where what the examples need is not installed."""
        wanted = [backend_name(), *_MODULES]
        if backend_name() == "tensorflow":
            wanted += _MODULES_ON_TENSORFLOW
        missing = [name for name in wanted if not is_installed(name)]
        if missing:
            self.error(
                f'not installed: {", ".join(missing)}. Run: pip install "keras_grapes[examples]"'
            )

    def make_folder(self, path):
        """Makes a folder, or refuses one that cannot be written to."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except FileExistsError:
            self.error(f"argument --output: '{path}' is a file; give a folder")
        except OSError as error:
            self.error(f"argument --output: cannot write to '{path}': {error.strerror}")


def positive_int(text):
    """A whole number of at least 1."""
    return _number(text, int, "a whole number of at least 1", lambda value: value >= 1)


def positive_float(text):
    """A finite number above 0."""
    return _number(text, float, "a number above 0", lambda value: 0 < value < math.inf)


def seed(text):
    """A seed that Python, NumPy and TensorFlow all take."""
    return _number(
        text, int, "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32
    )


def folder_path(text):
    """A path, `~` expanded."""
    if not text:
        raise argparse.ArgumentTypeError("must name a folder, received an empty text")
    return pathlib.Path(text).expanduser()


def _number(text, convert, wanted, is_valid):
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not is_valid(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}, received '{text}'")
    return value


def run(main):
    """Calls `main()`; Ctrl-C ends it with one line and the status a shell gives an interrupt."""
    try:
        main()
    except KeyboardInterrupt:
        # Away from the progress bar that stands in the line.
        print(flush=True)
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def is_installed(*modules):
    """Whether all of some modules can be imported."""
    return all(importlib.util.find_spec(name) for name in modules)


def backend_name():
    """Returns the name of Keras's backend as Keras finds it, without importing Keras."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    folder = pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras")
    try:
        settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    return settings.get("backend", "tensorflow")


def import_backend():
    """Imports the framework that Keras runs on, as `import_tensorflow` does."""
    _import_quietly(backend_name())


def import_tensorflow():
    """Imports TensorFlow without the lines that its libraries write while they are loaded."""
    _import_quietly("tensorflow")


def _import_quietly(module):
    """Imports a framework without the lines that its libraries write while they are loaded.

    They report the machine's abilities before the log level is in force, from native code: the
    error stream itself is closed to them.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
        importlib.import_module(module)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
