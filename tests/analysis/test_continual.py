import numpy as np
import pytest

import keras_grapes as kg

continual = kg.analysis.continual
NAN = np.nan

# Permuted MNIST, one epoch a task: the run in the authors' published notebook, and the forgetting
# that the notebook prints after tasks 2 to 5.
PUBLISHED = np.array(
    [
        [0.9520, NAN, NAN, NAN, NAN],
        [0.9236, 0.9527, NAN, NAN, NAN],
        [0.9044, 0.9465, 0.9525, NAN, NAN],
        [0.7393, 0.8867, 0.9424, 0.9545, NAN],
        [0.7700, 0.8611, 0.9317, 0.9409, 0.9536],
    ]
)
PUBLISHED_FORGETTING = [0.0284, 0.0269, 0.0963, 0.0770]

# Small enough to calculate by hand; task 2 is best before the last training but one.
HAND = [[0.90, 0.30, 0.20], [0.80, 0.70, 0.40], [0.60, 0.75, 0.95]]
INITIAL = [0.10, 0.05, 0.15]


def test_forgetting_of_the_published_run():
    for trained, expected in zip(range(2, 6), PUBLISHED_FORGETTING):
        assert continual.forgetting(PUBLISHED[:trained]) == pytest.approx(expected, abs=1e-4)
    assert continual.average_accuracy(PUBLISHED) == pytest.approx(0.89146)


def test_measures_by_hand():
    assert continual.average_accuracy(HAND) == pytest.approx((0.60 + 0.75 + 0.95) / 3)
    assert continual.average_accuracy(HAND[:2]) == pytest.approx((0.80 + 0.70) / 2)
    assert continual.forgetting(HAND) == pytest.approx((0.30 - 0.05) / 2)
    assert continual.backward_transfer(HAND) == pytest.approx((-0.30 + 0.05) / 2)
    assert continual.forward_transfer(HAND, INITIAL) == pytest.approx((0.25 + 0.25) / 2)
    assert continual.forward_transfer(HAND[:1], 0.1) == pytest.approx(0.2)
    np.testing.assert_allclose(continual.past_accuracy(HAND), [NAN, 0.80, 0.675])
    np.testing.assert_allclose(continual.future_accuracy(HAND), [0.25, 0.40, NAN])
    np.testing.assert_allclose(continual.future_accuracy(HAND[:1]), [0.25])


def test_forgetting_counts_from_the_best_seen_and_backward_transfer_from_the_training():
    better_later = [[0.5, 0.1, 0.1], [0.8, 0.9, 0.1], [0.6, 0.9, 0.9]]
    assert continual.forgetting(better_later) == pytest.approx(0.2 / 2)
    assert continual.backward_transfer(better_later) == pytest.approx(0.1 / 2)


def test_the_measures_stand_in_the_package_too():
    assert kg.analysis.forgetting is continual.forgetting
    assert kg.analysis.average_accuracy is continual.average_accuracy


def test_one_task_alone():
    assert continual.average_accuracy([[0.5]]) == 0.5
    assert np.isnan(continual.past_accuracy([[0.5]])).all()
    assert np.isnan(continual.future_accuracy([[0.5]])).all()


@pytest.mark.parametrize(
    "measure, matrix",
    [
        (continual.average_accuracy, [0.5, 0.6]),
        (continual.average_accuracy, []),
        (continual.average_accuracy, [[0.5], [0.6]]),
        (continual.forgetting, [[0.5, 0.6]]),
        (continual.backward_transfer, [[0.5, 0.6]]),
        (lambda matrix: continual.forward_transfer(matrix, 0.1), [[0.5]]),
        (continual.past_accuracy, [[[0.5]]]),
        (continual.future_accuracy, 0.5),
    ],
)
def test_what_is_no_matrix_of_tasks_is_refused(measure, matrix):
    with pytest.raises(ValueError, match="`accuracy` must be a matrix"):
        measure(matrix)
    with pytest.raises(ValueError, match="`accuracy` must be of numbers"):
        measure([["a"]])


def test_initial_accuracies_must_fit():
    with pytest.raises(ValueError, match=r"`initial_accuracy` must be of numbers.*'a'"):
        continual.forward_transfer(HAND, "a")
    with pytest.raises(ValueError, match="one for each of the 3 tasks"):
        continual.forward_transfer(HAND, [0.1, 0.1])


def test_plots_leave_the_figures_of_the_user_alone_and_show_in_notebooks():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    mine = pyplot.figure()
    numbers = pyplot.get_fignums()
    figure = continual.plot_matrix(HAND)
    assert pyplot.gcf() is mine
    assert pyplot.get_fignums() == numbers
    assert figure._repr_png_().startswith(b"\x89PNG")
    pyplot.close(mine)


def test_plots():
    pytest.importorskip("matplotlib").use("agg")
    figure = continual.plot_matrix(HAND, names=["a", "b", "c"])
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts[:3]] == ["0.90", "0.30", "0.20"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert len(continual.plot_matrix(PUBLISHED).axes[0].texts) == 15

    figure = continual.plot_tasks({"SGD": HAND, "GRAPES": np.array(HAND) / 2})
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["task 1", "task 2", "task 3", "past tasks", "future tasks"]
    np.testing.assert_allclose(panels["task 1"].lines[0].get_ydata(), [0.90, 0.80, 0.60])
    np.testing.assert_allclose(panels["past tasks"].lines[1].get_ydata(), [NAN, 0.40, 0.3375])
    for draw in (
        lambda: continual.plot_matrix(HAND, names=["a"]),
        lambda: continual.plot_tasks({}),
        lambda: continual.plot_tasks({"a": HAND, "b": HAND[:2]}),
    ):
        with pytest.raises(ValueError):
            draw()
