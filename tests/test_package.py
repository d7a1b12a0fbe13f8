"""The built package, as a user installs it."""

import pathlib
import subprocess
import sys
import zipfile

import pytest

import keras_grapes as kg

ROOT = pathlib.Path(__file__).parents[1]


def test_wheel_holds_every_module_and_imports_from_an_empty_directory(tmp_path):
    source = tmp_path / "source"
    # A copy, so that the build leaves nothing behind in the repository.
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    modules = [p.relative_to(ROOT) for p in (ROOT / "keras_grapes").rglob("*.py")]
    for module in modules:
        (source / module).parent.mkdir(parents=True, exist_ok=True)
        (source / module).write_bytes((ROOT / module).read_bytes())
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", "dist"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {str(m) for m in modules} <= names
    assert not any(name.startswith(("tests", "examples")) for name in names)
    empty = tmp_path / "empty"
    empty.mkdir()
    check = f"import sys; sys.path.insert(0, {str(wheel)!r}); import keras_grapes as kg; "
    check += "print(kg.__version__, kg.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=empty, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(kg.__version__)
    assert str(wheel) in done.stdout


def test_names_stand_in_sub_packages_too():
    assert kg.optimizers.Grapes is kg.Grapes
    assert kg.layers.ErrorModulation is kg.ErrorModulation
    assert kg.models.propagate is kg.propagate


@pytest.mark.every_backend
def test_import_is_light():
    """What only some use is imported when it is used."""
    check = (
        "import sys, keras; before = set(sys.modules); import keras_grapes;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new & {'scipy', 'matplotlib', 'sklearn', 'tensorflow_datasets'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.every_backend
def test_backend_without_a_module_is_refused():
    check = "import keras; keras.backend.backend = lambda: 'openvino'; import keras_grapes"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert "runs on the backends 'tensorflow', 'jax' and 'torch'" in done.stderr
