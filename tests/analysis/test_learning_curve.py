import copy
import pickle

import numpy as np
import pytest
import scipy.optimize

import keras_grapes as kg

EPOCHS = np.arange(1, 101)


def curve(max_accuracy, slowness, epochs=EPOCHS):
    return max_accuracy * epochs / (slowness + epochs)


@pytest.mark.parametrize("slowness", [0.0, 1e-3, 0.026, 0.5, 1, 3.7, 40, 300, 900])
@pytest.mark.parametrize("top", [0.12, 0.75, 0.98643])
def test_a_curve_of_the_equation_gives_its_parameters_back(top, slowness):
    if slowness == 0:
        # Constant but for the last digits.
        values = top + 1e-12 * np.sin(EPOCHS)
    else:
        values = curve(top, slowness)
    max_accuracy, fitted = fit = kg.analysis.fit_plateau(values)
    assert max_accuracy == fit.max_accuracy == pytest.approx(top, rel=1e-6)
    assert fitted == fit.slowness == pytest.approx(slowness, rel=1e-6, abs=1e-6)
    assert fit.max_accuracy_error < 1e-6
    assert fit.slowness_error < 1e-5
    assert fit.epochs == 100


def test_short_curves_lists_and_single_precision():
    assert tuple(kg.analysis.fit_plateau([0.45, 0.6, 0.675])) == pytest.approx((0.9, 1), rel=1e-6)
    single = curve(0.9, 2.5, EPOCHS[:20]).astype("float32")
    assert tuple(kg.analysis.fit_plateau(single)) == pytest.approx((0.9, 2.5), rel=1e-5)


def test_only_the_first_hundred_epochs_count():
    values = np.concatenate([curve(0.8, 5), np.full(50, 0.1)])
    assert tuple(kg.analysis.fit_plateau(values)) == pytest.approx((0.8, 5), rel=1e-6)
    values = np.concatenate([curve(0.8, 5)[:30], np.full(50, 0.1)])
    fit = kg.analysis.fit_plateau(values, epochs=30)
    assert tuple(fit) == pytest.approx((0.8, 5), rel=1e-6)


def noisy(seed=3, epochs=60):
    noise = np.random.default_rng(seed).normal(scale=0.01, size=epochs)
    return np.clip(curve(0.95, 1.4, EPOCHS[:epochs]) + noise, 0, 1)


def test_noise_gives_the_least_squares_and_their_errors():
    values = noisy()
    expected, covariance = scipy.optimize.curve_fit(
        lambda x, top, slowness: top * x / (slowness + x), EPOCHS[:60], values, [0.9, 1]
    )
    fit = kg.analysis.fit_plateau(values)
    assert tuple(fit) == pytest.approx(expected, rel=1e-5)
    errors = [fit.max_accuracy_error, fit.slowness_error]
    assert errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-3)
    assert abs(fit.slowness - 1.4) < 4 * fit.slowness_error


@pytest.mark.parametrize("values", [noisy(), curve(0.98, 0.03, EPOCHS[:60]) - 1e-3 * noisy()])
def test_observed_maximum_and_chance_as_in_the_authors_notebook(values):
    points = np.concatenate([[0.1], values])[:60]
    top = points.max()
    (expected,), _ = scipy.optimize.curve_fit(
        lambda x, slowness: top * x / (slowness + x), np.arange(60), points, 0.5
    )
    fit = kg.analysis.fit_plateau(values, chance=0.1, max_accuracy="observed", epochs=60)
    assert fit.max_accuracy == top
    assert fit.slowness == pytest.approx(expected, rel=1e-5)
    assert fit.max_accuracy_error == 0
    assert fit.slowness_error > 0
    assert fit.epochs == 59


def test_chance_tells_nothing_about_a_fitted_plateau():
    assert kg.analysis.fit_plateau(noisy(), chance=0.1) == kg.analysis.fit_plateau(noisy())


def test_a_falling_curve_has_no_negative_slowness():
    fit = kg.analysis.fit_plateau([0.9, 0.8, 0.85, 0.7])
    assert fit.slowness == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "values, message",
    [
        ([], "needs 3 epochs at least"),
        ([0.5, 0.6], "needs 3 epochs at least"),
        ([0.1] * 20, "must not be constant"),
        ([0.5, np.nan, 0.6, 0.7], "Received: nan at epoch 2"),
        ([0.5, np.inf, 0.6], "must be finite"),
        ([50.0, 60.0, 67.0], "Divide percent by 100"),
        ([0.5, -0.1, 0.6], "between 0 and 1"),
        ([0.5, 0.9, 1.0000001], r"Received: 1\.0000001"),
        ([[0.5, 0.6, 0.7]], "one dimension"),
        ("accuracy", "one dimension"),
        (0.5, "one dimension"),
        (np.linspace(0.001, 0.5, 100) ** 2, "does not bend"),
    ],
)
def test_what_cannot_be_fitted_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        kg.analysis.fit_plateau(values)


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match="`max_accuracy` must be one of"):
        kg.analysis.fit_plateau([0.1, 0.2, 0.3], max_accuracy=0.9)
    for chance in (10, "a", float("nan")):
        with pytest.raises(ValueError, match="`chance` must be a number from 0 to 1"):
            kg.analysis.fit_plateau([0.1, 0.2, 0.3], chance=chance)
    for epochs in (0, -1, 2.5):
        with pytest.raises(ValueError, match="`epochs` must be a positive int"):
            kg.analysis.fit_plateau([0.1, 0.2, 0.3], epochs=epochs)
    with pytest.raises(ValueError, match="needs 2 epochs at least"):
        kg.analysis.fit_plateau([0.5], chance=0.1, max_accuracy="observed")


def test_the_result_can_be_copied_and_read():
    fit = kg.analysis.fit_plateau(noisy())
    for other in (copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
        assert other == fit
        assert other.slowness_error == fit.slowness_error
    assert "slowness=1.4" in repr(fit)


def test_plateau_is_half_of_its_maximum_at_the_slowness():
    np.testing.assert_allclose(kg.analysis.plateau([0, 4, 1e9], 0.8, 4), [0, 0.4, 0.8])
    np.testing.assert_allclose(kg.analysis.plateau([0, 1], 0.8, 0), [0, 0.8])


def test_plot_shows_the_curves_and_the_fits():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figure = kg.analysis.plot_learning_curves({"SGD": noisy(), "GRAPES": noisy(4)}, axes=axes)
    assert figure is axes.figure
    points, line, *_ = axes.lines
    np.testing.assert_allclose(points.get_ydata(), noisy())
    top, slowness = kg.analysis.fit_plateau(noisy())
    np.testing.assert_allclose(line.get_ydata()[-1], top * 60 / (slowness + 60))
    assert f"slowness {slowness:.3g}" in points.get_label()
    with pytest.raises(ValueError, match="`curves` must be a dict"):
        kg.analysis.plot_learning_curves([0.1, 0.2])
