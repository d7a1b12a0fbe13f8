import keras
import numpy as np
import pytest

from keras_grapes.optimizers.variable_paths import AmbiguousPathsError, pair_by_path


class Named:
    """A variable as far as its path and shape go."""

    def __init__(self, path, shape=(2, 2)):
        self.path = path
        self.name = path.split("/")[-1]
        self.shape = shape

    def __repr__(self):
        return self.path


def stored(*paths, shape=(2, 2), frozen=()):
    return [[path, list(shape), path not in frozen] for path in paths]


def paired(weights, *paths, **options):
    found = pair_by_path(weights, [Named(path) for path in paths], **options)
    return {weights[place][0]: variable.path for place, variable in found.items()}


@pytest.mark.parametrize(
    "here",
    [
        ["net/a/kernel", "net/b/kernel"],
        ["net_1/a/kernel", "net_1/b/kernel"],  # The root has another number,
        ["a/kernel", "b/kernel"],  # or none,
        ["whole/net/a/kernel", "whole/net/b/kernel"],  # or is in another model,
        ["net/a/a/kernel", "net/b/kernel"],  # or a layer is in a wrapper.
    ],
)
def test_other_roots(here):
    weights = stored("net/a/kernel", "net/b/kernel")
    for order in (here, here[::-1]):
        assert paired(weights, *order) == dict(zip([w[0] for w in weights], here))


@pytest.mark.parametrize(
    "here", ["net/c/kernel", "other/deep/a/kernel", "x/y/a/bias", "other/a/kernel", "kernel"]
)
def test_other_names_are_not_taken(here):
    assert paired(stored("net/a/kernel"), here) == {}
    # What is in common is the cell's name alone.
    assert paired(stored("encoder/lstm_cell/kernel"), "decoder/lstm_cell/kernel") == {}


def test_other_shapes_are_not_taken():
    assert pair_by_path(stored("a/kernel"), [Named("a/kernel", (2, 3))]) == {}


def test_the_longest_common_end_goes_first():
    weights = stored("left/a/kernel", "right/a/kernel", "a/kernel")
    here = ["a/kernel", "right/a/kernel", "left/a/kernel"]
    assert paired(weights, *here) == {path: path for path in here}
    assert paired(weights, "right/a/kernel") == {"right/a/kernel": "right/a/kernel"}


def test_numbers_of_automatic_names():
    weights = stored("net/dense/kernel", "net/dense_1/kernel", "net/dense_2/kernel")
    here = ["dense_9/kernel", "dense_10/kernel", "dense_11/kernel"]
    assert paired(weights, *here) == {}
    expected = dict(zip([w[0] for w in weights], here))
    assert paired(weights, *here, numbered=False) == expected
    assert paired(weights, *here[::-1], numbered=False) == expected
    with pytest.raises(AmbiguousPathsError, match=r"which of several.*dense_10"):
        paired(weights, *here[1:], numbered=False)
    weights = stored(*[w[0] for w in weights], frozen=["net/dense/kernel"])
    expected = {"net/dense_1/kernel": "dense_10/kernel", "net/dense_2/kernel": "dense_11/kernel"}
    assert paired(weights, *here[1:], numbered=False) == expected


def test_one_path_twice():
    """As in two nested models that name their layers alike: the order of all of them tells."""
    weights = stored("a/kernel", "a/kernel", "b/kernel")
    variables = [Named("a/kernel"), Named("b/kernel"), Named("a/kernel")]
    found = pair_by_path(weights, variables)
    assert found == {0: variables[0], 1: variables[2], 2: variables[1]}
    with pytest.raises(AmbiguousPathsError):
        pair_by_path(weights, variables[:2])


def test_variables_of_tensorflow_have_names_alone():
    raw = [keras.Variable(np.ones(shape), name="kernel").value for shape in [(2, 3), (3, 4)]]
    weights = [["kernel:0", [3, 4], True], ["kernel:0", [2, 3], True]]
    found = pair_by_path(weights, raw)
    assert found[0] is raw[1] and found[1] is raw[0]
