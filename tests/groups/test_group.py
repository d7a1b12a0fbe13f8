import numpy as np
import pytest

from keras_grapes.groups import (
    Group,
)


def test_bad_groups_are_refused():
    with pytest.raises(ValueError, match="one entry per kernel"):
        Group([np.ones((2, 2))], [0, 0])
    with pytest.raises(ValueError, match=r"needs a kernel.*return an empty list"):
        Group([])


def test_inner_group_is_not_that_of_the_output():
    group = Group(np.ones((2, 3)), 1, output_axis=1, guessed=True)
    inner = group.inner()
    assert (inner.output_axis, inner.feeds_output) == (None, False)
    assert (inner.incoming_axes, inner.guessed) == ([(1,)], True)
    assert inner.kernels[0] is group.kernels[0]
