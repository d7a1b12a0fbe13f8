"""Trains the runs of a comparison: an arm is compiled once, and each run starts it anew."""

import json
import math
import re

import keras
import numpy as np

from keras_grapes.comparison import arms
from keras_grapes.comparison.data import Batches
from keras_grapes.optimizers.grapes import Grapes

__all__ = []

# How many training batches one of a test has: it keeps nothing for a way back.
TEST_BATCHES = 4


class Recipe:
    """How a model is made and compiled, from a function and what the caller gave beside it.

    Args:
        make_model: Function without arguments that returns a new built model, compiled or not.
        optimizer: Name, config or `keras.optimizers.Optimizer`; `None` for the model's own.
        loss: As `compile` takes it; `None` for the model's own.
        metrics: Likewise.
    """

    def __init__(self, make_model, optimizer, loss, metrics):
        if not callable(make_model) or isinstance(make_model, keras.Model):
            raise TypeError(
                "`make_model` must be a function without arguments that returns a new model: each "
                f"run needs a fresh one. Received: make_model={make_model!r}"
            )
        self._make_model = make_model
        self._optimizer = optimizer
        self._loss = loss
        self._metrics = metrics
        self._start = None, None
        self._last = None

    def fresh(self, seed):
        """Returns a new model with the weights of a seed, and the arguments of its `compile`."""
        keras.utils.set_random_seed(seed)
        model = self._make_model()
        if not isinstance(model, keras.Model):
            raise TypeError(f"`make_model` must return a `keras.Model`. Received: {model!r}")
        if model is self._last:
            raise ValueError(
                "`make_model` returned the same model twice: create the model within the function."
            )
        if not model.built or not model.weights:
            raise ValueError(
                f"`make_model` returned the model '{model.name}', which has no weights yet. Give "
                "it a `keras.Input`, or call `model.build(input_shape)` in the function."
            )
        self._last = model
        # What a function draws by other means than Keras's does not come back by the seed.
        if self._start[0] != seed:
            self._start = seed, model.get_weights()
        start = self._start[1]
        if [w.shape for w in start] != [w.shape for w in model.get_weights()]:
            raise ValueError("`make_model` must return the same network each time.")
        model.set_weights(start)
        return model, self._compile_arguments(model)

    def _compile_arguments(self, model):
        chosen = {}
        if model.compiled:
            chosen = self._of_compiled(model)
        if self._optimizer is not None:
            chosen["optimizer"] = _fresh_optimizer(self._optimizer)
        if self._loss is not None:
            chosen["loss"] = self._loss
        if self._metrics is not None:
            chosen["metrics"] = keras.tree.map_structure(_fresh_metric, self._metrics)
        if chosen.get("loss") is None:
            raise ValueError(
                "`loss` is missing: give it, or return a compiled model from `make_model`."
            )
        chosen.setdefault("optimizer", _fresh_optimizer("sgd"))
        if isinstance(chosen["optimizer"], Grapes):
            raise ValueError(
                "`optimizer` is a `Grapes`, and the arms put one around it where it is due: give "
                "its inner optimizer."
            )
        return chosen

    def _of_compiled(self, model):
        config = model.get_compile_config() or {}
        found = {"optimizer": model.optimizer, "loss": model.loss}
        names = ["loss_weights", "run_eagerly", "steps_per_execution", "jit_compile"]
        names += [] if self._metrics is not None else ["metrics", "weighted_metrics"]
        for name in names:
            if config.get(name) is None:
                continue
            try:
                found[name] = keras.saving.deserialize_keras_object(config[name])
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{name}` of the compiled model cannot be copied ({error}). Give `loss` and "
                    "`metrics` to `compare`, and return a model that is not compiled."
                ) from error
        return found

    def fingerprint(self, seed):
        """Tells two recipes apart, in a text that is the same in another process."""
        model, compiled = self.fresh(seed)
        try:
            text = model.to_json()
        except (NotImplementedError, TypeError, ValueError):  # A subclassed model, perhaps.
            text = json.dumps([type(model).__name__, [list(w.shape) for w in model.weights]])
        # Names that Keras gives count up within a process.
        for number, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', text))):
            text = text.replace(name, f'"{number}"')
        optimizer = compiled["optimizer"].get_config()
        optimizer.pop("learning_rate", None)
        optimizer.pop("name", None)
        loss = compiled["loss"]
        loss = (
            loss.get_config() if isinstance(loss, keras.Loss) else getattr(loss, "__name__", loss)
        )
        name = type(compiled["optimizer"]).__name__
        return "\n".join([text, name, repr(sorted(optimizer.items())), repr(loss)])


def _fresh_optimizer(optimizer):
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return type(optimizer).from_config(optimizer.get_config())
    return keras.optimizers.get(optimizer)


def _fresh_metric(metric):
    if isinstance(metric, keras.Metric):
        return type(metric).from_config(metric.get_config())
    return metric


class Runner:
    """One arm, compiled, trained again and again from new weights.

    Args:
        arm: A value of the dict of `arms.named`.
        method: See `keras_grapes.compare`.
        recipe: `Recipe`.
        seed: Int, of the first run.
    """

    def __init__(self, arm, method, recipe, seed):
        self._arm = arm
        self._method = method
        self._recipe = recipe
        self._seed = seed
        self._trained = False
        self.model, compiled = self._assemble(seed)
        self.model.compile(**compiled)
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        self.learning_rate = _rate_of(optimizer)
        self._start = [keras.ops.convert_to_numpy(v) for v in optimizer.variables]

    def _assemble(self, seed):
        model, compiled = self._recipe.fresh(seed)
        model, optimizer = arms.apply(self._arm, self._method, model, compiled["optimizer"])
        return model, {**compiled, "optimizer": optimizer}

    def _reset(self, seed, learning_rate):
        if seed != self._seed or self._trained:
            fresh, _ = self._assemble(seed)
            for variable, start in zip(self.model.variables, fresh.variables, strict=True):
                variable.assign(start)
        for variable, start in zip(self.model.optimizer.variables, self._start, strict=True):
            variable.assign(start)
        self.model.optimizer.learning_rate = learning_rate
        self._seed = seed
        self._trained = True

    def run(self, split, metric, seed, learning_rate, epochs, batch_size, callbacks, on_epoch):
        """Trains once and returns what is to be recorded, as a dict.

        Args:
            split: `data.Split`.
            metric: `Metric`.
            seed: Int.
            learning_rate: Float.
            epochs: Int.
            batch_size: Int.
            callbacks: List of callbacks of this run.
            on_epoch: Called after each epoch.
        """
        self._reset(seed, learning_rate)
        # Dropout and other layers without a seed of their own.
        keras.utils.set_random_seed(seed)
        batches = Batches(split.train, batch_size, seed)
        order = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch)
        )
        kept = _KeepBest(metric, on_epoch)
        x, y = split.validation
        history = self.model.fit(
            batches,
            validation_data=(x, y),
            validation_batch_size=TEST_BATCHES * batch_size,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[order, keras.callbacks.TerminateOnNaN(), *callbacks, kept],
        ).history
        result = {
            "history": {
                name: [_finite(value) for value in values]
                for name, values in history.items()
                if all(np.ndim(value) == 0 for value in values)
            },
            "diverged": not all(math.isfinite(value) for value in history["loss"]),
            "best_epoch": kept.epoch,
            "validation": kept.value,
            "test": None,
        }
        if kept.weights is not None:
            self.model.set_weights(kept.weights)
            x, y = split.test
            logs = self.model.evaluate(
                x, y, batch_size=TEST_BATCHES * batch_size, verbose=0, return_dict=True
            )
            result["test"] = _finite(logs[metric.name])
        return result


class Metric:
    """The measure that chooses and is told: its name and which way is better.

    Args:
        name: String, or `None` for the first metric of the model, its loss where it has none.
        mode: String, `"auto"`, `"max"` or `"min"`.
    """

    # Of which less is better, as parts of names.
    _SMALL = (
        "loss", "error", "mse", "mae", "mape", "msle", "crossentropy", "divergence", "perplexity",
        "poisson", "hinge", "huber", "cosh",
    )  # fmt: skip

    def __init__(self, name, mode):
        if mode not in ("auto", "max", "min"):
            raise ValueError(f'`mode` must be "auto", "max" or "min". Received: mode={mode!r}')
        self._mode = mode
        self.name = name

    def find(self, names):
        """Takes the first of the names that a model reports, or checks that it has this one."""
        names = [name for name in names if not name.startswith("val_")]
        if self.name is None:
            others = [name for name in names if name != "loss" and not name.endswith("_loss")]
            self.name = (others or ["loss"])[0]
        if self.name not in names:
            raise ValueError(
                f"`metric` must be one of what the model reports, {names}. Received: "
                f"metric={self.name!r}"
            )

    @property
    def sign(self):
        """1 where more is better, -1 where less is."""
        if self._mode != "auto":
            return 1 if self._mode == "max" else -1
        return -1 if any(part in self.name.lower() for part in self._SMALL) else 1

    @property
    def is_share(self):
        return "acc" in self.name.lower()

    @property
    def scale(self):
        """Shares are told in percent."""
        return 100 if self.is_share else 1


class _KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch that is best in validation."""

    def __init__(self, metric, on_epoch):
        super().__init__()
        self._metric = metric
        self._on_epoch = on_epoch
        self.epoch = self.value = self.weights = None

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(f"val_{self._metric.name}")
        if value is not None and math.isfinite(value) and math.isfinite(logs.get("loss", 0.0)):
            sign = self._metric.sign
            if self.value is None or sign * value > sign * self.value:
                self.epoch, self.value = epoch + 1, float(value)
                self.weights = self.model.get_weights()
        self._on_epoch()


def _rate_of(optimizer):
    try:
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        optimizer.learning_rate = rate
        return rate
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "`optimizer` has no learning rate that can be set, perhaps a schedule: give it a "
            f"number, and a callback for a schedule. Received: {optimizer!r}"
        ) from error


def _finite(value):
    value = float(value)
    return value if math.isfinite(value) else None
