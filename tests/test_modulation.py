import json

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import keras_grapes as kg
from keras_grapes import modulation

KERNEL = np.array([[1.0, -4.0, 0.0], [2.0, 0.0, 0.5]], "float32")

kernels = hnp.arrays(
    "float32",
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def test_importance_sums_absolute_weights_over_all_axes_but_the_last():
    np.testing.assert_array_equal(kg.node_importance(KERNEL), [3.0, 4.0, 0.5])
    conv = np.arange(-8.0, 16.0).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(kg.node_importance(conv), np.abs(conv).sum((0, 1, 2)))


@pytest.mark.parametrize("inputs", [1, 7, 16, 37, 100, 784])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_importance_of_any_number_of_inputs(inputs, in_blocks, monkeypatch):
    if in_blocks:
        monkeypatch.setattr(modulation, "_FITS_CACHE", 0)
    kernel = np.random.default_rng(0).normal(size=(inputs, 90))
    np.testing.assert_allclose(kg.node_importance(kernel), np.abs(kernel).sum(0), rtol=1e-12)


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((6, 5), (1,)),
        ((37, 130), (1,)),
        ((37, 127), (1,)),
        ((3, 4, 64), (0, 2)),
        ((3, 4, 64), (1, 2)),
        ((3, 4, 64), (2,)),
        ((3, 4, 64), (0,)),
        ((3, 4, 64), (1,)),
        ((3, 4, 64), (0, 1)),
        ((2, 3, 4, 5), (0, 1, 3)),
        ((2, 3, 4, 5), (0, 1)),
        ((2, 3, 4, 5), (1, 2, 3)),
        ((7,), ()),
        ((7, 8), ()),
    ],
)
def test_importance_of_large_kernels_over_any_axes(shape, axes, monkeypatch):
    """Large kernels are summed in blocks, in another way for each place of the axes."""
    kernel = np.random.default_rng(0).normal(size=shape)
    expected = np.abs(kernel).sum(axes)
    for limit in (modulation._FITS_CACHE, 0):
        monkeypatch.setattr(modulation, "_FITS_CACHE", limit)
        np.testing.assert_allclose(kg.node_importance(kernel, axes), expected, rtol=1e-12)


def test_sums_of_large_kernels_are_taken_piece_by_piece(monkeypatch):
    """The pieces are there: without them the numbers would be the same."""
    shapes = []
    absolute = modulation.ops.abs
    monkeypatch.setattr(
        modulation.ops, "abs", lambda x: shapes.append(tuple(x.shape)) or absolute(x)
    )
    kg.node_importance(np.ones((300, 300), "float32"))
    assert shapes == [(218, 300), (82, 300)]
    shapes.clear()
    monkeypatch.setattr(modulation, "_MOST_PIECES", 1)
    kg.node_importance(np.ones((300, 300), "float32"))
    assert shapes == [(300, 300), (20, 300)]


def test_sums_of_large_kernels_along_rows_are_taken_in_blocks(monkeypatch):
    shapes = []
    reshape = modulation.ops.reshape
    monkeypatch.setattr(
        modulation.ops, "reshape", lambda x, shape: shapes.append(shape) or reshape(x, shape)
    )
    kg.node_importance(np.ones((300, 300), "float32"), 1)
    assert shapes == [(300, 5, 60)]


@pytest.mark.parametrize("axes", [1, (1,), [1], -1])
def test_importance_over_given_axes(axes):
    np.testing.assert_array_equal(kg.node_importance(KERNEL, axes), [5.0, 2.5])


def test_importance_keeps_several_node_axes():
    kernel = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(kg.node_importance(kernel, 0), kernel.sum(0))


def test_importance_adds_the_kernels_of_a_list():
    recurrent = np.array([[1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(kg.node_importance([KERNEL, recurrent]), [4.0, 5.0, 1.5])
    transposed = KERNEL.T.copy()
    both = kg.node_importance([KERNEL, transposed], [0, 1])
    np.testing.assert_array_equal(both, [6.0, 8.0, 1.0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_summed_in_float32(dtype):
    # A float16 sum of ones stands still at 2048.
    importance = kg.node_importance(keras.ops.ones((70_000, 2), dtype))
    assert keras.backend.standardize_dtype(importance.dtype) == "float32"
    np.testing.assert_array_equal(importance, [70_000.0, 70_000.0])


def test_double_precision_is_kept():
    factor = kg.Modulation()(np.array([[1.0, 3.0]]))
    assert keras.backend.standardize_dtype(factor.dtype) == "float64"
    np.testing.assert_array_equal(factor, [1.0, 2.0])


def test_factor_by_hand():
    np.testing.assert_allclose(kg.modulation_factor([3.0, 4.0, 1.0]), [1.5, 2.0, 1.0])
    np.testing.assert_allclose(kg.modulation_factor([3.0, 4.0, 1.0], (0, 2)), [1.5, 2.0, 0.5])
    np.testing.assert_allclose(kg.modulation_factor([3.0, 4.0, 1.0], (0.5, 1.0)), [0.75, 1, 0.5])


@pytest.mark.parametrize("bounds", [(1, 2), (0, 2), (1.5, 1.5)])
def test_zero_weights_are_not_modulated(bounds):
    np.testing.assert_array_equal(kg.modulation_factor(np.zeros(3), bounds), np.ones(3))


@pytest.mark.parametrize("scale", [1e38, 1e-37])
def test_extreme_finite_weights_give_finite_factors(scale):
    kernel = np.full((50, 3), scale, "float32")
    factor = np.asarray(kg.Modulation()(kernel))
    assert np.isfinite(factor).all()
    np.testing.assert_array_equal(factor, 2.0)


def test_factor_is_a_constant_to_differentiation():
    import tensorflow as tf

    kernel = tf.Variable(KERNEL)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(kg.Modulation()(kernel))
    assert tape.gradient(loss, kernel) is None


def test_two_by_two_design():
    node = np.array([1.5, 2.0, 1.0])
    mean = node.mean()
    assert mean == 1.5
    for granularity, unit_mean, expected in [
        ("node", False, node),
        ("layer", False, np.full(3, mean)),
        ("node", True, node / mean),
        ("layer", True, np.ones(3)),
    ]:
        modulation = kg.Modulation(granularity=granularity, unit_mean=unit_mean)
        kernel = np.array([[3.0, 4.0, 1.0]], "float32")
        np.testing.assert_allclose(modulation(kernel), expected, rtol=1e-6)


@given(kernels)
def test_factors_lie_within_the_bounds_and_attain_the_maximum(kernel):
    factor = np.asarray(kg.Modulation()(kernel))
    assert np.all((factor >= 1.0) & (factor <= 2.0))
    assert factor.max() == (2.0 if np.any(kernel) else 1.0)


@given(kernels, st.floats(0.01, 100))
def test_factors_do_not_change_with_the_scale_of_the_weights(kernel, scale):
    assume(not np.any(kernel) or np.abs(kernel).max() > 1e-20)
    scaled = kernel.astype("float64") * scale
    np.testing.assert_allclose(
        kg.Modulation()(scaled), kg.Modulation()(kernel.astype("float64")), rtol=1e-9
    )


@given(kernels, st.randoms(use_true_random=False))
def test_factors_do_not_change_with_the_sign_of_a_weight(kernel, random):
    signs = np.array([random.choice((-1, 1)) for _ in range(kernel.size)], "float32")
    flipped = kernel * signs.reshape(kernel.shape)
    np.testing.assert_array_equal(kg.Modulation()(flipped), kg.Modulation()(kernel))


@given(kernels, st.randoms(use_true_random=False))
def test_factors_move_with_the_nodes(kernel, random):
    order = list(range(kernel.shape[-1]))
    random.shuffle(order)
    moved = np.asarray(kg.Modulation()(kernel[..., order]))
    np.testing.assert_allclose(moved, np.asarray(kg.Modulation()(kernel))[order], rtol=1e-6)


def test_config_round_trip_through_json():
    modulation = kg.Modulation(bounds=(0, 3), granularity="layer", unit_mean=True)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(modulation)))
    assert config["registered_name"] == "keras_grapes>Modulation"
    assert keras.saving.deserialize_keras_object(config) == modulation
    assert kg.Modulation.from_config(modulation.get_config()) == modulation


@pytest.mark.parametrize(
    "bounds",
    [
        *[(2, 1), (-1, 2), (0, 0), (1, float("inf")), (float("nan"), 2)],
        *[(1,), (1, 2, 3), 3, None, "ab", (True, 2), ("1", "2")],
    ],
)
def test_bad_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match=r"`bounds`.*Received"):
        kg.Modulation(bounds=bounds)
    with pytest.raises(ValueError, match=r"`bounds`.*Received"):
        kg.modulation_factor([1.0, 2.0], bounds)


@pytest.mark.parametrize("arguments", [{"granularity": "unit"}, {"unit_mean": 1}])
def test_bad_modulation_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        kg.Modulation(**arguments)


@pytest.mark.parametrize("axes", [2, -3, (0, 0), (0, 1), (0, -2), 0.5])
def test_bad_axes_are_refused(axes):
    with pytest.raises(ValueError, match="`incoming_axes`"):
        kg.node_importance(KERNEL, axes)


@pytest.mark.parametrize(
    "value", ["kernel", None, {}, [[1.0, 2.0], [3.0]], np.ones((2, 2), complex)]
)
def test_what_is_not_made_of_real_numbers_is_refused(value):
    with pytest.raises(TypeError, match=r"`kernel` must be .* real numbers.*kernel="):
        kg.node_importance(value)
    with pytest.raises(TypeError, match=r"`importance` must be .* real numbers"):
        kg.modulation_factor(value)
    with pytest.raises(TypeError, match="`kernel`"):
        kg.node_importance([KERNEL, value])


def test_a_kernel_whose_shape_is_not_known_yet():
    kernel = keras.Input((3,))
    factor = keras.Function(kernel, kg.Modulation()(kernel))
    for rows in (1, 2, 500):
        values = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
        np.testing.assert_allclose(factor(values), kg.Modulation()(values), rtol=1e-6)


def test_importances_that_only_double_precision_holds():
    np.testing.assert_allclose(kg.Modulation()(np.array([[1e200, 2e200, 1.5e200]])), [1, 2, 1.5])


def test_kernels_of_different_nodes_are_refused():
    with pytest.raises(ValueError, match="same nodes"):
        kg.node_importance([KERNEL, np.ones((2, 4))])
    with pytest.raises(ValueError, match="one entry per kernel"):
        kg.node_importance([KERNEL, KERNEL], [0])


@pytest.mark.parametrize("value", ["grapes", 1, False, None, kg.Modulation])
def test_get_refuses_other_types(value):
    with pytest.raises(TypeError, match="`modulation`"):
        kg.Modulation.get(value)


def test_none_is_no_modulation_and_refused_where_there_is_nothing_else():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    for modulated in (
        lambda: kg.Grapes("sgd", model=model, modulation=None),
        lambda: kg.ErrorModulation(keras.layers.Dense(2), modulation=None),
        lambda: kg.propagate(model, modulation=None),
    ):
        with pytest.raises(TypeError, match=r"modulation=keras_grapes\.Modulation\(\)"):
            modulated()
    assert kg.FeedbackAlignment(model, modulation=None).modulation is None
