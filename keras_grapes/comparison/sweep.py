"""Trains every arm at every learning rate from every seed, paired, and records it."""

import contextlib
import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_grapes.checks import check_positive_int, is_int, is_number
from keras_grapes.comparison import arms as arms_
from keras_grapes.comparison.data import Split
from keras_grapes.comparison.journal import Journal
from keras_grapes.comparison.result import Comparison
from keras_grapes.comparison.runner import Metric, Recipe, Runner
from keras_grapes.types import Array

__all__ = ["compare"]

# Of the optimizer's own rate, where none are given.
_AROUND = (0.3, 1.0, 3.0)


def compare(
    make_model: Callable[[], keras.Model],
    x: Array,
    y: Array | None,
    *,
    arms: Any = None,
    learning_rates: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 5,
    epochs: int = 10,
    batch_size: int = 32,
    validation_split: float = 0.2,
    test_split: float = 0.2,
    test_data: Any = None,
    optimizer: Any = None,
    loss: Any = None,
    metrics: Any = None,
    metric: str | None = None,
    mode: str = "auto",
    method: str | Callable = "propagate",
    callbacks: Any = None,
    records: str | os.PathLike | None = None,
    verbose: int | bool = 1,
) -> Comparison:
    """Tells whether modulation helps on your model and data, and which part of it does.

    GRAPES raises the mean learning rate of the nodes, and gives them different rates by a pattern.
    This function trains the 2 x 2 design: plain training, GRAPES, only the raised mean and only the
    pattern, each at every learning rate and with every seed. The arms are paired: with the same
    seed all have the same initial weights and the same batches in the same order. Held-out
    validation data chooses the epoch of each run and the learning rate of each arm. The test data
    is used once per run, at the chosen epoch. The confidence intervals of the paired differences
    alone decide the verdict.

    It sets the random seeds of Python, NumPy and Keras.

    Args:
        make_model: Function without arguments that returns a new built `keras.Model`, compiled or
            not.
        x: Array of examples, or a list or dict of such arrays.
        y: Array of targets, likewise.
        arms: Tuple of names of `"plain"`, `"GRAPES"`, `"mean only"` and `"pattern only"`, or a dict
            of your own names to arms: a `keras_grapes.Modulation`, `None` for plain training, or a
            function of a model and an optimizer that returns the model to train, or a pair of
            model and optimizer. The first one is what the others are compared with. Defaults to
            `None`, the four.
        learning_rates: Float or sequence of floats, given to every arm. Defaults to `None`, 0.3, 1
            and 3 times the rate of the optimizer.
        seeds: Int, the number of seeds, or a sequence of ints. An interval needs at least two
            seeds, a convincing verdict five. Defaults to 5.
        epochs: Int. Defaults to 10.
        batch_size: Int. Defaults to 32.
        validation_split: Float, the share of the examples for validation. Defaults to 0.2.
        test_split: Float, the share for the test. Both are drawn at random, once. Defaults to 0.2.
        test_data: Pair of examples and targets in place of `test_split`. Defaults to `None`.
        optimizer: Name, config or `keras.optimizers.Optimizer`. Defaults to `None`, that of the
            compiled model, or `"sgd"`.
        loss: As `compile` takes it. Defaults to `None`, that of the compiled model.
        metrics: Likewise.
        metric: String, the name of the metric that chooses and is reported. Defaults to `None`, the
            first metric, or the loss if there is none.
        mode: String, `"max"` or `"min"`, which way the metric is better. Defaults to `"auto"`, by
            its name.
        method: String, `"propagate"` for `keras_grapes.propagate`, `"optimizer"` for the local
            version, `keras_grapes.Grapes`; or a feedback model such as
            `keras_grapes.DirectFeedbackAlignment`. Defaults to `"propagate"`.
        callbacks: List of callbacks, which are copied for each run, or a function without arguments
            that returns a new list. Defaults to `None`.
        records: Path of a file to which each run is written when it is complete. Recorded runs are
            not trained again, so that a comparison that was stopped continues. The file knows an
            arm by its name. Defaults to `None`.
        verbose: Int, 1 for a progress bar, 0 for none. Defaults to 1.

    Returns:
        A `keras_grapes.comparison.Comparison`, with `.table()`, `.verdict()` and `.plot()`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has another value than described; if `make_model` returns the
            same model twice, or a model without weights; or if a line of `records` is not a record.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2) compares plain
          training and GRAPES; the two controls are ours.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_grapes as kg
    >>> def make_model():
    ...     model = keras.Sequential([
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8, activation="relu"),
    ...         keras.layers.Dense(3, activation="softmax"),
    ...     ])
    ...     model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    ...     return model
    >>> x = np.random.default_rng(0).normal(size=(60, 4))
    >>> found = kg.compare(
    ...     make_model, x, x[:, :3].argmax(axis=1), arms=("plain", "GRAPES"),
    ...     learning_rates=0.1, seeds=2, epochs=2, verbose=0,
    ... )
    >>> found.difference("GRAPES", "plain").n
    2
    """
    arms = arms_.named(arms)
    arms_.check_method(method)
    chosen_seeds = _seeds(seeds)
    epochs = check_positive_int("epochs", epochs)
    batch_size = check_positive_int("batch_size", batch_size)
    make_callbacks = _callbacks(callbacks)
    if not isinstance(verbose, int):
        raise ValueError(f"`verbose` must be 0 or 1. Received: verbose={verbose!r}")
    measure = Metric(metric, mode)
    split = Split(x, y, validation_split, test_split, test_data)
    recipe = Recipe(make_model, optimizer, loss, metrics)
    learning_rates = _rates(learning_rates)

    fingerprint = _fingerprint(recipe, split, chosen_seeds[0])
    runners = {}

    def runner(name, seed):
        if name not in runners:
            runners[name] = Runner(arms[name], method, recipe, seed)
        return runners[name]

    first = runner(next(iter(arms)), chosen_seeds[0])
    if learning_rates is None:
        learning_rates = tuple(float(f"{first.learning_rate * by:.3g}") for by in _AROUND)
    measure.find(_reported(first.model, split, batch_size))

    common = {
        "method": method if isinstance(method, str) else getattr(method, "__name__", str(method)),
        "epochs": epochs,
        "batch_size": batch_size,
        "metric": measure.name,
        "examples": split.sizes,
        "fingerprint": fingerprint,
    }
    runs = [
        {"arm": name, "learning_rate": rate, "seed": seed}
        for seed in chosen_seeds
        for name in arms
        for rate in learning_rates
    ]
    journal = None if records is None else _journal(records)
    known = {} if journal is None else _known(journal, common)
    done = {_key(run): known[_key(run)] for run in runs if _key(run) in known}
    pending = [run for run in runs if _key(run) not in done]
    with contextlib.ExitStack() as stack:
        if journal is not None and pending:
            stack.enter_context(journal.writing())
        progress = _Progress(pending, epochs, len(done), verbose)
        for run in pending:
            result = runner(run["arm"], run["seed"]).run(
                split,
                measure,
                run["seed"],
                run["learning_rate"],
                epochs,
                batch_size,
                make_callbacks(),
                progress.epoch_done,
            )
            progress.run_done()
            done[_key(run)] = {**run, **result}
            if journal is not None:
                journal.append({"settings": {**common, **run}, **result})
    return Comparison([done[_key(run)] for run in runs], tuple(arms), measure, common)


def _key(run):
    return run["arm"], run["learning_rate"], run["seed"]


def _reported(model, split, batch_size):
    """Names of what a model reports, from a batch of the validation data."""
    x, y = (
        keras.tree.map_structure(lambda array: array[:batch_size], part)
        for part in split.validation
    )
    return list(model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True))


def _fingerprint(recipe, split, seed):
    """Of all that a run hangs on and its settings do not name: data and model."""
    found = hashlib.sha256(recipe.fingerprint(seed).encode())
    for part in (split.train, split.validation, split.test):
        for array in keras.tree.flatten(part):
            found.update(repr((array.shape, array.dtype)).encode())
            found.update(
                repr(array.tolist()).encode()
                if array.dtype == object
                else np.ascontiguousarray(array).tobytes()
            )
    return found.hexdigest()[:16]


def _journal(records):
    if not isinstance(records, (str, os.PathLike)):
        raise TypeError(f"`records` must be a path or None. Received: records={records!r}")
    journal = Journal(records)
    if journal.path.is_dir():
        raise ValueError(f"`records` must be a file. Received: the folder {str(records)!r}")
    journal.path.parent.mkdir(parents=True, exist_ok=True)
    return journal


def _known(journal, common):
    """Maps the keys of the recorded runs of this comparison to their records."""
    found = {}
    for number, entry in journal.read():
        try:
            settings = dict(entry["settings"])
            run = {name: settings.pop(name) for name in ("arm", "learning_rate", "seed")}
            result = {name: entry[name] for name in _RESULT}
        except (KeyError, TypeError, ValueError) as error:
            raise journal.error(number, repr(error)) from error
        settings["examples"] = tuple(settings.get("examples", ()))
        if settings == common:
            found.setdefault(_key(run), {**run, **result})
    return found


_RESULT = ("history", "diverged", "best_epoch", "validation", "test")


class _Progress:
    """A bar over the epochs of all runs."""

    def __init__(self, pending, epochs, recorded, verbose):
        self._bar = None
        self._done = 0
        self._epochs = epochs
        self._runs = 0
        if verbose and recorded:
            print(f"{len(pending) + recorded} runs, {recorded} recorded", flush=True)
        if verbose and pending:
            self._bar = keras.utils.Progbar(len(pending) * epochs, unit_name="epoch")

    def epoch_done(self):
        self._advance(min(self._done + 1, (self._runs + 1) * self._epochs))

    def run_done(self):
        # Runs that ended early leave epochs out.
        self._runs += 1
        self._advance(self._runs * self._epochs)

    def _advance(self, done):
        if self._bar is not None and done > self._done:
            self._bar.update(done)
        self._done = done


def _seeds(seeds):
    if is_int(seeds):
        seeds = range(check_positive_int("seeds", seeds))
    try:
        found = [int(seed) for seed in seeds]
        valid = (
            all(s >= 0 for s in found) and found == list(seeds) and len(set(found)) == len(found)
        )
    except (TypeError, ValueError):
        found, valid = [], False
    if not found or not valid or isinstance(seeds, str):
        raise ValueError(
            "`seeds` must be a positive int or a sequence of different ints of 0 or more. "
            f"Received: seeds={seeds!r}"
        )
    return found


def _rates(rates):
    if rates is None:
        return None
    if is_number(rates):
        rates = (rates,)
    try:
        found = tuple(float(rate) for rate in rates)
    except (TypeError, ValueError):
        found = ()
    if not found or len(set(found)) < len(found) or not all(0 < r < float("inf") for r in found):
        raise ValueError(
            "`learning_rates` must be a positive number or a sequence of different ones. "
            f"Received: learning_rates={rates!r}"
        )
    return found


def _callbacks(callbacks):
    """Returns a function that gives each run callbacks of its own."""
    if callable(callbacks) and not isinstance(callbacks, keras.callbacks.Callback):
        return lambda: list(callbacks())
    if callbacks is None:
        callbacks = []
    given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for one in given:
        if not isinstance(one, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be a list of callbacks or a function that returns one. Received: "
                f"callbacks={callbacks!r}"
            )
    return lambda: copy.deepcopy(given)
