"""Callback that measures the accuracy on every task of a sequence."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_grapes import analysis
from keras_grapes.callbacks.observation import log_name, unchanged
from keras_grapes.checks import check_positive_int, check_string, is_int
from keras_grapes.types import Figure

__all__ = ["TaskAccuracy"]


class TaskAccuracy(keras.callbacks.Callback):
    """Measures the accuracy on a sequence of tasks while a model is trained on one after another.

    Pass the same callback to the `fit` of each task, in the order of the tasks. Every call appends
    a row to the matrix `accuracy`: the accuracies on the test sets of all tasks after this
    training. If a task needs several calls of `fit`, say which task they belong to: with
    `callbacks=[tracker.task(name)]` they share the task's row, and the last call determines it.
    `keras_grapes.analysis.continual` computes forgetting and transfer from the matrix. Before the
    first training the accuracies of the untrained network are measured too.

    The callback calls `model.evaluate` with a metric of the compiled model. Afterwards it restores
    what this changes: metrics, states of layers and random seeds. Training is the same without the
    callback. Place it after callbacks that change the weights at the end of training,
    such as `keras.callbacks.EarlyStopping` with `restore_best_weights`.

    Args:
        tasks: List of the test sets of the tasks, or dict of their names to the test sets. A test
            set is a tuple `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset` of batches, or
            a `keras.utils.PyDataset`.
        every: Int, the number of epochs between further measurements during training. These are in
            `curve`, and in the logs as `task_accuracy/{task}`. Defaults to `None`, only after each
            training.
        metric: String, the name of a metric of the model. Defaults to `"accuracy"`.
        batch_size: Int, for tasks given as arrays. Defaults to `None`, Keras's 32.

    Attributes:
        names: List of the names of the tasks; `task_1` and so on for a list.
        accuracy: Array of shape `(trainings, tasks)`; `(tasks trained, tasks)` with `task`.
        initial_accuracy: Array of shape `(tasks,)`, before the first training.
        epochs: Array of the epochs of `curve`, counted on from training to training.
        curve: Array of shape `(records, tasks)`, empty without `every`.

    Raises:
        TypeError: If `tasks` is no such list or dict, or `metric` not a string.
        ValueError: If `tasks` is empty, or `every` or `batch_size` not positive; or by `fit`, if
            the model is not compiled with `metric`.

    References:
        - [Lopez-Paz and Ranzato, 2017](https://arxiv.org/abs/1706.08840).
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Fig. 6.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> x = keras.random.normal((64, 4), seed=0)
    >>> tasks = [(x, keras.ops.argmax(x[:, i : i + 2], axis=1)) for i in range(3)]
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> tracker = kg.callbacks.TaskAccuracy(tasks)
    >>> for task in tasks:
    ...     history = model.fit(*task, verbose=0, callbacks=[tracker])
    >>> tracker.accuracy.shape
    (3, 3)
    >>> forgetting = kg.analysis.continual.forgetting(tracker.accuracy)
    """

    def __init__(
        self,
        tasks: Sequence | dict,
        every: int | None = None,
        metric: str = "accuracy",
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        every = check_positive_int("every", every, or_none=True)
        if not isinstance(tasks, dict):
            if not isinstance(tasks, (list, tuple)):
                raise TypeError(
                    "`tasks` must be a list of test sets, or a dict of names to test sets. "
                    f"Received: tasks of type {type(tasks).__name__}"
                )
            tasks = {f"task_{number}": data for number, data in enumerate(tasks, start=1)}
        if not tasks:
            raise ValueError("`tasks` must have one test set at least. Received: none")
        for name, data in tasks.items():
            _check_data(name, data)
        self.names = [str(name) for name in tasks]
        self.every = every
        self.metric = check_string("metric", metric)
        self.batch_size = check_positive_int("batch_size", batch_size, or_none=True)
        self.initial_accuracy = None
        self._keys = list(tasks)
        self._tasks = list(tasks.values())
        self._rows: list = []
        self._row = None
        self._count = 0
        self._epochs: list = []
        self._curve: list = []

    def task(self, task: str | int) -> "TaskAccuracy":
        """Says which task the trainings from now on belong to.

        Args:
            task: The name of a task, or its number in the order of the tasks, from 0 on.

        Returns:
            The callback itself, to be given to `fit`.

        Raises:
            ValueError: If there is no such task, or it is neither the last trained task nor the
                next one: the row and the column of a task have the same index.

        Example:

        >>> import keras
        >>> import keras_grapes as kg
        >>> x = keras.random.normal((64, 4), seed=0)
        >>> tasks = [(x, keras.ops.argmax(x[:, i : i + 2], axis=1)) for i in range(2)]
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> tracker = kg.callbacks.TaskAccuracy({"first": tasks[0], "second": tasks[1]})
        >>> for name, (x, y) in zip(tracker.names, tasks):
        ...     for part in (slice(0, 32), slice(32, 64)):
        ...         _ = model.fit(x[part], y[part], verbose=0, callbacks=[tracker.task(name)])
        >>> tracker.accuracy.shape
        (2, 2)
        """
        row = self._place(task)
        trained = len(self._rows)
        if row not in (trained - 1, trained):
            last = f"after '{self.names[trained - 1]}'" if trained else "first"
            raise ValueError(
                f"The tasks must be trained in their order, {self.names}, each of them until the "
                f"next begins. Received: task '{self.names[row]}' {last}. List the tasks in the "
                "order of training; `curve`, with `every`, tells the accuracies in any order."
            )
        self._row = row
        return self

    def _place(self, task):
        if task in self._keys:
            return self._keys.index(task)
        if not (is_int(task) and 0 <= task < len(self.names)):
            raise ValueError(
                f"`task` must be one of {self.names}, or a number from 0 to "
                f"{len(self.names) - 1}. Received: task={task!r}"
            )
        return int(task)

    @property
    def accuracy(self):
        return self._matrix(self._rows)

    @property
    def epochs(self):
        return np.array(self._epochs, "int64")

    @property
    def curve(self):
        return self._matrix(self._curve)

    def _matrix(self, rows):
        return np.array(rows, "float64").reshape(-1, len(self.names))

    def on_train_begin(self, logs=None):
        if self.initial_accuracy is None:
            self.initial_accuracy = np.array(self._evaluate())

    def on_epoch_end(self, epoch, logs=None):
        self._count += 1
        if self.every is None:
            return
        if self._count % self.every == 0:
            self._epochs.append(self._count)
            self._curve.append(self._evaluate())
        if logs is not None:
            latest = self._curve[-1] if self._curve else self.initial_accuracy
            names = [log_name("task_accuracy", name) for name in self.names]
            logs.update(zip(names, map(float, latest)))

    def on_train_end(self, logs=None):
        # Another callback may have changed the weights since the last epoch was measured.
        row = len(self._rows) if self._row is None else self._row
        self._rows[row : row + 1] = [self._evaluate()]

    def _evaluate(self):
        with unchanged(self.model):
            return [self._accuracy_on(data) for data in self._tasks]

    def _accuracy_on(self, data):
        if isinstance(data, (list, tuple)):
            x, y, *weight = data
            arguments = {
                "x": x,
                "y": y,
                "sample_weight": weight[0] if weight else None,
                "batch_size": self.batch_size,
            }
        else:
            arguments = {"x": data}
        results = self.model.evaluate(**arguments, return_dict=True, verbose=0)
        if self.metric not in results:
            raise ValueError(
                f"`TaskAccuracy` needs the metric '{self.metric}'. Received: a model with "
                f"{sorted(results)}. Compile it with metrics=['accuracy'], or choose another "
                "`metric`."
            )
        return float(results[self.metric])

    def plot(self) -> Figure:
        """Draws the accuracies on every task after training on each.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ValueError: If nothing was measured, or there were more trainings than tasks, without
                `task` to tell which task each belongs to.
        """
        if len(self._rows) > len(self.names):
            raise ValueError(
                f"There were {len(self._rows)} trainings for {len(self.names)} tasks. Where a task "
                "takes several calls of `fit`, give them callbacks=[tracker.task(name)]."
            )
        return analysis.continual.plot_matrix(self.accuracy, self.names)


def _check_data(name, data):
    is_arrays = isinstance(data, (list, tuple)) and len(data) in (2, 3)
    is_batches = hasattr(data, "element_spec") or isinstance(data, keras.utils.PyDataset)
    if not (is_arrays or is_batches):
        raise TypeError(
            f"The test set of task '{name}' must be a tuple (x, y) or (x, y, sample_weight), a "
            "`tf.data.Dataset` or a `keras.utils.PyDataset`, which can be read again. Received: "
            f"{type(data).__name__}" + (f" of {len(data)}" if isinstance(data, tuple) else "")
        )
