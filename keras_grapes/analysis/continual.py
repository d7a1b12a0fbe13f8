"""Measures of continual learning, from the accuracies on every task after training on each.

All measures take a matrix `accuracy`: `accuracy[i, j]` is the accuracy on the test set of task `j`
after training on task `i`, both counted from 0. `keras_grapes.callbacks.TaskAccuracy` records it.
It may have fewer rows than columns; the measures then describe the state after its last row.
Entries that a measure does not need may be `nan`, such as later tasks for `forgetting`.
"""

from collections.abc import Sequence

import numpy as np

from keras_grapes.analysis import figures
from keras_grapes.types import Array, Axes, Figure

__all__ = [
    "average_accuracy",
    "backward_transfer",
    "forgetting",
    "forward_transfer",
    "future_accuracy",
    "past_accuracy",
    "plot_matrix",
    "plot_tasks",
]


def average_accuracy(accuracy: Array) -> float:
    """Mean accuracy on the tasks trained so far, after the last of them.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, see the module.

    Returns:
        Float.

    Raises:
        ValueError: If `accuracy` is no such matrix.

    References:
        - [Lopez-Paz and Ranzato, 2017](https://arxiv.org/abs/1706.08840), ACC.

    Example:

    >>> import keras_grapes as kg
    >>> kg.analysis.continual.average_accuracy([[0.9, 0.1], [0.7, 0.8]])
    0.75
    """
    accuracy = _check_matrix(accuracy)
    return float(np.mean(accuracy[-1, : len(accuracy)]))


def forgetting(accuracy: Array) -> float:
    """Mean drop of the accuracy on the earlier tasks, from the best accuracy to the last.

    `f[j] = max over i < k of accuracy[i, j] - accuracy[k, j]`, averaged over the tasks `j < k`,
    where `k` is the last trained task. Negative if training on later tasks helped.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, with two rows at least, see the module.

    Returns:
        Float.

    Raises:
        ValueError: If `accuracy` is no such matrix.

    References:
        - [Chaudhry et al., 2018](https://arxiv.org/abs/1801.10112), Eq. 3 and 4.

    Example:

    >>> import keras_grapes as kg
    >>> round(kg.analysis.continual.forgetting([[0.9, 0.1], [0.7, 0.8]]), 6)
    0.2
    """
    accuracy = _check_matrix(accuracy, rows=2)
    last = len(accuracy) - 1
    best = np.nanmax(accuracy[:last, :last], axis=0)
    return float(np.mean(best - accuracy[last, :last]))


def backward_transfer(accuracy: Array) -> float:
    """Mean change of the accuracy on the earlier tasks since each of them was trained.

    `accuracy[k, j] - accuracy[j, j]`, averaged over the tasks `j < k`, where `k` is the last
    trained task. Negative if the network forgets.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, with two rows at least, see the module.

    Returns:
        Float.

    Raises:
        ValueError: If `accuracy` is no such matrix.

    References:
        - [Lopez-Paz and Ranzato, 2017](https://arxiv.org/abs/1706.08840), BWT.

    Example:

    >>> import keras_grapes as kg
    >>> round(kg.analysis.continual.backward_transfer([[0.9, 0.1], [0.7, 0.8]]), 6)
    -0.2
    """
    accuracy = _check_matrix(accuracy, rows=2)
    last = len(accuracy) - 1
    return float(np.mean(accuracy[last, :last] - np.diagonal(accuracy)[:last]))


def forward_transfer(accuracy: Array, initial_accuracy: Array) -> float:
    """Mean head start on a task from the tasks trained before it.

    `accuracy[j - 1, j] - initial_accuracy[j]`, averaged over all tasks `j`, except the first, that
    follow a trained task.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, with two columns at least, see the
            module.
        initial_accuracy: Array of shape `(tasks,)`, the accuracies of the network before any
            training, or a float, such as 0.1 for chance with ten classes.

    Returns:
        Float.

    Raises:
        ValueError: If `accuracy` is no such matrix, or `initial_accuracy` does not fit it.

    References:
        - [Lopez-Paz and Ranzato, 2017](https://arxiv.org/abs/1706.08840), FWT.

    Example:

    >>> import keras_grapes as kg
    >>> round(kg.analysis.continual.forward_transfer([[0.9, 0.4], [0.7, 0.8]], [0.1, 0.1]), 6)
    0.3
    """
    accuracy = _check_matrix(accuracy, columns=2)
    tasks = accuracy.shape[1]
    initial = _numbers("initial_accuracy", initial_accuracy)
    if initial.shape not in ((), (tasks,)):
        raise ValueError(
            f"`initial_accuracy` must be a number or have one for each of the {tasks} tasks. "
            f"Received: an array of shape {initial.shape}"
        )
    gain = np.diagonal(accuracy, offset=1) - np.broadcast_to(initial, tasks)[1 : len(accuracy) + 1]
    return float(np.mean(gain))


def past_accuracy(accuracy: Array) -> Array:
    """Mean accuracy on all earlier tasks after training on each task: what is remembered.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, see the module.

    Returns:
        Array of shape `(tasks trained,)`, with `nan` for the first task, which none precedes.

    Raises:
        ValueError: If `accuracy` is no such matrix.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Fig. 6; the
          definition is ours.

    Example:

    >>> import keras_grapes as kg
    >>> kg.analysis.continual.past_accuracy([[0.9, 0.1], [0.7, 0.8]])
    array([nan, 0.7])
    """
    accuracy = _check_matrix(accuracy)
    return np.array([np.nan] + [np.mean(row[:i]) for i, row in enumerate(accuracy) if i])


def future_accuracy(accuracy: Array) -> Array:
    """Mean accuracy on all later tasks after training on each task: what carries over.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, see the module.

    Returns:
        Array of shape `(tasks trained,)`, with `nan` for the last task, which none follows.

    Raises:
        ValueError: If `accuracy` is no such matrix.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Fig. 6; the
          definition is ours.

    Example:

    >>> import keras_grapes as kg
    >>> kg.analysis.continual.future_accuracy([[0.9, 0.1], [0.7, 0.8]])
    array([0.1, nan])
    """
    accuracy = _check_matrix(accuracy)
    later = [row[i + 1 :] for i, row in enumerate(accuracy)]
    return np.array([np.mean(row) if len(row) else np.nan for row in later])


def plot_matrix(
    accuracy: Array, names: Sequence[str] | None = None, axes: Axes | None = None
) -> Figure:
    """Draws the accuracies on every task after training on each, as shades with numbers.

    Args:
        accuracy: Array of shape `(tasks trained, tasks)`, of numbers from 0 to 1.
        names: List of the names of the tasks. Defaults to `None`, their numbers from 1.
        axes: `matplotlib.axes.Axes` to draw in. Defaults to `None`, a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `accuracy` is no such matrix, or `names` has not one name a task.

    Example:

    >>> import keras_grapes as kg
    >>> figure = kg.analysis.continual.plot_matrix([[0.9, 0.1], [0.7, 0.8]])
    """
    accuracy = _check_matrix(accuracy)
    rows, tasks = accuracy.shape
    names = _task_names(names, tasks)
    if axes is None:
        axes = figures.new_axes()[0, 0]
    image = axes.imshow(accuracy, cmap="Greys", vmin=0, vmax=1)
    for i, j in np.ndindex(rows, tasks):
        if np.isfinite(accuracy[i, j]):
            color = "white" if accuracy[i, j] > 0.5 else "black"
            axes.text(j, i, f"{accuracy[i, j]:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(tasks), names)
    axes.set_yticks(range(rows), names[:rows])
    axes.set_xlabel("tested on task")
    axes.set_ylabel("after training on task")
    axes.figure.colorbar(image, ax=axes, label="accuracy")
    return axes.figure


def plot_tasks(matrices: dict[str, Array], names: Sequence[str] | None = None) -> Figure:
    """Draws the accuracy on each task over the sequence of trainings, and its past and future.

    There is one panel per task: the accuracy on this task after every training, with a vertical
    line where the task itself was trained. Two more panels show the mean accuracies on the past and
    on the future tasks, as in the paper's Fig. 6.

    Args:
        matrices: Dict of the name of a method to its matrix `accuracy`, see the module; all of one
            shape.
        names: List of the names of the tasks. Defaults to `None`, their numbers from 1.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `matrices` is no such dict, or `names` has not one name a task.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Fig. 6.

    Example:

    >>> import keras_grapes as kg
    >>> figure = kg.analysis.continual.plot_tasks({
    ...     "SGD": [[0.9, 0.1], [0.6, 0.8]], "GRAPES": [[0.9, 0.2], [0.7, 0.8]],
    ... })
    >>> [axes.get_title() for axes in figure.axes]
    ['task 1', 'task 2', 'past tasks', 'future tasks']
    """
    if not isinstance(matrices, dict) or not matrices:
        raise ValueError(
            "`matrices` must be a dict of names to matrices, with one entry at least. Received: "
            f"matrices={matrices!r}"
        )
    matrices = {method: _check_matrix(accuracy) for method, accuracy in matrices.items()}
    shapes = sorted({accuracy.shape for accuracy in matrices.values()})
    if len(shapes) > 1:
        raise ValueError(f"`matrices` must be of one shape. Received: the shapes {shapes}")
    ((rows, tasks),) = shapes
    names = _task_names(names, tasks)
    lines: dict[str, dict] = {f"task {name}": {} for name in names} | {
        "past tasks": {},
        "future tasks": {},
    }
    for method, accuracy in matrices.items():
        curves = [*accuracy.T, past_accuracy(accuracy), future_accuracy(accuracy)]
        for panel, curve in zip(lines.values(), curves):
            panel[method] = curve

    columns = min(len(lines), 4)
    grid = figures.new_axes(-(-len(lines) // columns), columns, size=(2.8, 2.6), sharey=True)
    for place, (axes, (title, panel)) in enumerate(zip(grid.flat, lines.items())):
        for number, (method, curve) in enumerate(panel.items()):
            axes.plot(range(1, rows + 1), curve, label=method, **figures.style(number))
        if place < min(rows, tasks):
            axes.axvline(place + 1, color="0.7", linewidth=1, zorder=0)
        axes.set_title(title)
        axes.set_xlabel("tasks trained")
        figures.whole_numbers(axes.xaxis)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    grid[0, 0].legend()
    for axes in grid.flat[len(lines) :]:
        axes.remove()
    return grid[0, 0].figure


def _numbers(name, value):
    try:
        return np.asarray(value, "float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be of numbers. Received: {name}={value!r}") from error


def _check_matrix(accuracy, rows=1, columns=1):
    matrix = _numbers("accuracy", accuracy)
    if matrix.ndim != 2 or not rows <= len(matrix) <= matrix.shape[1] or matrix.shape[1] < columns:
        raise ValueError(
            "`accuracy` must be a matrix of shape (tasks trained, tasks) with "
            f"{rows} row(s) and {max(rows, columns)} column(s) at least, and no more rows than "
            f"columns. Received: an array of shape {matrix.shape}"
        )
    return matrix


def _task_names(names, tasks):
    names = [str(number) for number in range(1, tasks + 1)] if names is None else list(names)
    if len(names) != tasks:
        raise ValueError(f"`names` must have {tasks} names. Received: names={names}")
    return names
