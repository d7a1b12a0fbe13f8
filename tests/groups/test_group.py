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


def test_a_factor_that_does_not_fit_an_output_is_refused_in_a_whole_sentence():
    group = Group(np.ones((2, 3)))
    message = r"the nodes of the group, of shape \(3,\), are not axis -1 of an output of shape"
    with pytest.raises(ValueError, match=message):
        group.over_output(np.ones(3), (5, 4))


def test_inner_group_is_not_that_of_the_output():
    group = Group(np.ones((2, 3)), 1, output_axis=1, guessed=True)
    inner = group.inner()
    assert (inner.output_axis, inner.feeds_output) == (None, False)
    assert (inner.incoming_axes, inner.guessed) == ([(1,)], True)
    assert inner.kernels[0] is group.kernels[0]
