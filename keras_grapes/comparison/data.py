"""The examples of a comparison: what is trained on, what chooses, what is told at the end."""

import keras
import numpy as np

from keras_grapes.checks import check_share

__all__ = []


class Split:
    """Examples to train on, to choose on and to test on; the same in all runs.

    Args:
        x: Array or tree of arrays, examples along the first axis.
        y: Likewise.
        validation_split: Float, the share to choose on.
        test_split: Float, the share to test on. Without effect where `test_data` is given.
        test_data: Pair of examples and targets, or `None`.

    Raises:
        TypeError: If these are not arrays.
        ValueError: If they have not one number of examples, or too few for the parts.
    """

    def __init__(self, x, y, validation_split, test_split, test_data):
        x, y = arrays("x", x), arrays("y", y)
        count = length(x, y)
        check_share("validation_split", validation_split, ends=False)
        if test_data is None:
            check_share("test_split", test_split, ends=False)
        elif not isinstance(test_data, (tuple, list)) or len(test_data) != 2:
            raise TypeError("`test_data` must be a pair of examples and targets.")
        shares = [validation_split, test_split if test_data is None else 0.0]
        held, tested = (round(share * count) for share in shares)
        left = count - held - tested
        if left < 1 or held < 1 or (test_data is None and tested < 1):
            raise ValueError(
                f"`x` has {count} examples: validation_split={validation_split!r} and "
                f"test_split={test_split!r} leave {left} to train on, {held} to choose on and "
                f"{tested} to test on, and each needs one at least."
            )
        # Data may be sorted. One order for all seeds: a seed is for weights and batches.
        order = np.random.default_rng(0).permutation(count)
        self.train = take((x, y), order[:left])
        self.validation = take((x, y), order[left : left + held])
        if test_data is None:
            self.test = take((x, y), order[left + held :])
        else:
            self.test = tuple(arrays("test_data", part) for part in test_data)
            length(*self.test, name="test_data")

    @property
    def sizes(self):
        return tuple(length(*part) for part in (self.train, self.validation, self.test))


class Batches(keras.utils.PyDataset):
    """Batches in an order that the seed and the number of the epoch give, and nothing else.

    `start_epoch` begins an epoch. Keras calls `on_epoch_end` at other times too, and asks for
    batches that it does not train on.

    Args:
        data: Pair of trees of arrays.
        batch_size: Int.
        seed: Int.
    """

    def __init__(self, data, batch_size, seed):
        super().__init__()
        self._data = data
        self._size = batch_size
        self._seed = seed
        self._count = length(*data)
        self.start_epoch(0)

    def __len__(self):
        return -(-self._count // self._size)

    def __getitem__(self, index):
        return take(self._data, self._order[index * self._size : (index + 1) * self._size])

    def start_epoch(self, epoch):
        self._order = np.random.default_rng((self._seed, epoch)).permutation(self._count)


def take(data, places):
    return keras.tree.map_structure(lambda array: array[places], data)


def arrays(name, value):
    """Returns a tree of arrays for one of arrays, tensors or lists of numbers."""
    if isinstance(value, (list, tuple)) and not any(hasattr(part, "shape") for part in value):
        value = np.asarray(value)
    leaves = keras.tree.flatten(value)
    if not leaves or not all(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves):
        raise TypeError(
            f"`{name}` must be an array with an example a row, or a list or dict of such arrays. "
            f"Received: {name} of type {type(value).__name__}"
        )
    return keras.tree.map_structure(
        lambda leaf: leaf if isinstance(leaf, np.ndarray) else keras.ops.convert_to_numpy(leaf),
        value,
    )


def length(x, y, name="x` and `y"):
    """Returns the number of examples."""
    counts = {len(leaf) for leaf in keras.tree.flatten((x, y))}
    if len(counts) != 1:
        raise ValueError(
            f"Examples and targets of `{name}` must have one number of rows. Received: "
            f"{sorted(counts)}"
        )
    return counts.pop()
