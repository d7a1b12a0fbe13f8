import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from examples import command_line, data, quickstart
from tests.examples.refusal import refusal
from tests.patience import PATIENCE

for module in ("matplotlib", "sklearn", "tensorflow_datasets"):
    pytest.importorskip(module)

SCRIPT = pathlib.Path(quickstart.__file__)
CODES = [
    "plain",
    "kg.Grapes(optimizer, model=model)",
    "kg.propagate(model)",
    'kg.propagate(model, kg.Modulation(granularity="layer"))',
]


def start(*arguments, **keywords):
    """Starts the script as a user does, from a folder that is not the repository."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def run(*arguments, **keywords):
    process = start(*arguments, **keywords)
    out, err = process.communicate(timeout=PATIENCE)
    return types.SimpleNamespace(out=out, err=err, status=process.returncode)


@pytest.fixture(scope="module")
def tiny():
    """Forty random images in three classes."""
    random = np.random.default_rng(0)
    images = random.random((40, 3, 3, 1), "float32")
    labels = random.integers(0, 3, 40)
    return data.Dataset("tiny", "Tiny", (images, labels), (images, labels), 3).flattened()


def tiny_options(**changes):
    options = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 2, "seed": 3}
    return types.SimpleNamespace(**{**options, **changes})


def test_one_epoch_on_digits_prints_the_table_and_saves_the_picture(tmp_path):
    done = run("--dataset", "digits", "--epochs", 1, "--output", "out", cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.err == ""
    # On a slow machine Keras draws the last step of a bar twice.
    assert done.out.count("23/23") >= 4
    rows = re.findall(r"^(\S.*?) +(\d+\.\d\d) %$", done.out, re.MULTILINE)
    assert [row[0] for row in rows] == CODES
    # One epoch of 23 steps lifts every variant well above one in ten.
    assert all(20 < float(row[1]) <= 100 for row in rows)
    assert "error gain" in done.out
    assert (
        done.out.splitlines()[-1] == f"Learning curves: {pathlib.Path('out/learning_curves.png')}"
    )
    picture = tmp_path / "out" / "learning_curves.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [picture.name]


def test_variants_start_from_the_same_weights(tiny):
    models = []
    for variant in quickstart.variants():
        model = quickstart.build_model(9, 3, seed=1)
        model, _ = variant.prepare(model, quickstart.build_optimizer("sgd", 0.1))
        models.append(model)
    for model in models[1:]:
        for one, other in zip(models[0].get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    different = quickstart.build_model(9, 3, seed=2)
    assert np.any(different.get_weights()[0] != models[0].get_weights()[0])


def test_variants_see_the_data_in_the_same_order(tiny):
    plain, local, propagating, control = quickstart.variants()

    def without_modulation(variant):
        """The same path through the code, with factors of one."""
        import keras_grapes as kg

        one = kg.Modulation(bounds=(1.0, 1.0))
        prepare = {
            local.code: lambda m, o: (m, kg.Grapes(o, model=m, modulation=one)),
            propagating.code: lambda m, o: (kg.propagate(m, modulation=one), o),
            control.code: lambda m, o: (
                kg.propagate(m, kg.Modulation(bounds=(1.0, 1.0), granularity="layer")),
                o,
            ),
        }[variant.code]
        return quickstart.Variant(variant.code, variant.sentence, prepare)

    expected = quickstart.train(plain, tiny, tiny_options())
    for variant in (local, propagating, control):
        result = quickstart.train(without_modulation(variant), tiny, tiny_options())
        np.testing.assert_allclose(result.training_loss, expected.training_loss, rtol=1e-5)


def test_the_four_variants_differ_and_a_seed_repeats_them(tiny):
    first = [quickstart.train(v, tiny, tiny_options()).training_loss for v in quickstart.variants()]
    again = [quickstart.train(v, tiny, tiny_options()).training_loss for v in quickstart.variants()]
    np.testing.assert_array_equal(first, again)
    assert len({tuple(losses) for losses in first}) == 4
    other_seed = quickstart.train(quickstart.variants()[0], tiny, tiny_options(seed=4))
    assert other_seed.training_loss != first[0]


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("adam", "muon") else pytest.param(name, marks=pytest.mark.slow)
        for name in quickstart.LEARNING_RATES
    ],
)
def test_every_listed_optimizer_trains(name, tiny):
    try:
        quickstart.build_optimizer(name, 0.1)
    except ValueError:
        pytest.skip("not in this Keras")
    rate = quickstart.LEARNING_RATES[name]
    for variant in quickstart.variants():
        options = tiny_options(optimizer=name, learning_rate=rate, epochs=1)
        assert np.isfinite(quickstart.train(variant, tiny, options).training_loss[0])


def test_table_says_which_variant_diverged():
    plain, local, *_ = quickstart.variants()
    good = quickstart.Result(plain, None, [0.5, 0.9312], [1.0, 0.1])
    bad = quickstart.Result(local, None, [0.1, 0.1], [5.0, float("nan")])
    lines = quickstart.table([good, bad]).splitlines()
    assert lines[1].split() == ["plain", "93.12", "%"]
    assert "diverged" in lines[2] and "--learning-rate" in lines[2]


def test_conclusion_fits_the_optimizer_and_the_runs():
    def result(accuracy, loss=0.1):
        return quickstart.Result(None, None, [accuracy], [loss])

    text = quickstart.conclusion(result(0.9525), result(0.95), "sgd")
    assert "+0.25 points" in text and "twice the learning rate" in text and "cancels" not in text
    text = quickstart.conclusion(result(0.94), result(0.95), "adam")
    assert "-1.00 points" in text and "cancels" in text and "twice" not in text
    diverged = quickstart.conclusion(result(0.1, float("nan")), result(0.95), "sgd")
    assert "points" not in diverged


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--dataset", "cifar"], "--dataset"),
        (["--optimizer", "sdg"], "--optimizer"),
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "2.5"], "--epochs"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--learning-rate", "-0.1"], "--learning-rate"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--learning-rate", "inf"], "--learning-rate"),
        (["--learning-rate", "fast"], "--learning-rate"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**32)], "--seed"),
        (["--output", ""], "--output"),
        (["--epoch"], "--epoch"),
        (["--unknown", "1"], "--unknown"),
        (["extra"], "extra"),
    ],
)
def test_wrong_option_is_named_in_one_line(arguments, named, capsys):
    assert named in refusal(capsys, quickstart, *arguments)


def test_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert "is a file" in refusal(capsys, quickstart, "--output", str(tmp_path / "file"))
    assert "file" in refusal(capsys, quickstart, "--output", str(tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_output_that_is_not_writable_is_refused(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert "cannot write" in refusal(capsys, quickstart, "--output", str(tmp_path))


def test_a_failing_write_is_refused(tmp_path, capsys, monkeypatch):
    def fail(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command_line.tempfile, "TemporaryFile", fail)
    assert "cannot write" in refusal(capsys, quickstart, "--output", str(tmp_path))


def test_missing_modules_are_refused_with_the_command_to_install_them(capsys, monkeypatch):
    monkeypatch.setattr(command_line, "_MODULES", ("keras", "no_such_module_here"))
    line = refusal(capsys, quickstart)
    assert "no_such_module_here" in line and 'pip install "keras_grapes[examples]"' in line
    assert "keras," not in line


def test_wrong_options_make_no_folder(tmp_path, capsys):
    refusal(capsys, quickstart, "--output", str(tmp_path / "new"), "--epochs", "0")
    assert not (tmp_path / "new").exists()


def test_script_without_any_package_names_what_is_missing(tmp_path):
    # `-S` leaves out everything that pip has installed.
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPT)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "tensorflow" in done.stderr and "pip install" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--epochs", "0"], ["--dataset", "cifar"], ["--output", "file/below"]]
)
def test_script_refuses_with_status_2_and_no_traceback(arguments, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(*arguments, cwd=tmp_path)
    assert done.status == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1 and done.err.startswith("quickstart.py: error: ")


def test_explicit_data_set_that_is_out_of_reach_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data, "answers", lambda url: False)
    monkeypatch.setattr(
        sys, "argv", ["quickstart.py", "--dataset", "mnist", "--output", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as caught:
        quickstart.main()
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "TFDS_DATA_DIR" in captured.err and "--dataset digits" in captured.err


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_ends_with_one_line(tmp_path):
    process = start("--dataset", "digits", "--epochs", 100000, cwd=tmp_path, bufsize=1)
    for line in process.stdout:
        if "Epoch 2/" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == "Interrupted.\n"


def test_no_optimizer_of_keras_is_left_out():
    import keras

    known = set()
    for name, value in vars(keras.optimizers).items():
        if isinstance(value, type):
            # Wrappers, and what Keras does not know by its name.
            with contextlib.suppress(Exception):
                keras.optimizers.get(name.lower())
                known.add(name.lower())
    assert {"sgd", "adam"} <= known <= set(quickstart.LEARNING_RATES)


def test_an_optimizer_that_this_keras_lacks_is_refused_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(quickstart.LEARNING_RATES, "newer", 0.1)
    arguments = ["--dataset", "digits", "--optimizer", "newer"]
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        quickstart.main()
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1 and "newer" in captured.err
