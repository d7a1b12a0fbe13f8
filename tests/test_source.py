"""What must hold for the source itself."""

import ast
import doctest
import importlib
import inspect
import pathlib
import pkgutil

import pytest

import keras_grapes

ROOT = pathlib.Path(keras_grapes.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
OTHER_BACKENDS = [
    f"keras_grapes.backend.{name}"
    for name in ("tensorflow", "jax", "torch")
    if name != keras_grapes.backend.name
]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_grapes.__path__, "keras_grapes.")
    if module.name not in OTHER_BACKENDS
]

# Imports point one way: a layer of this list imports from the layers before it alone.
LAYERS = [
    ("checks", "keras_hooks", "naming", "types"),
    ("version", "graph", "backend"),
    ("modulation", "kernels", "losses", "regularizers"),
    ("random", "metrics", "layer_registry"),
    ("groups",),
    ("grouping", "linear"),
    ("wiring",),
    ("optimizers", "layers", "training"),
    ("models", "saving", "hardware"),
    ("analysis", "nir"),
    ("callbacks",),
    ("comparison",),
]
# Where TensorFlow may be named: see the design of the package. Of the callbacks, one writes
# histograms for TensorBoard.
TENSORFLOW_IN = {"backend", "training", "saving", "callbacks"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(path):
    part = part_of(path)
    rank = next((i for i, names in enumerate(LAYERS) if part in names), len(LAYERS))
    for name in imports(path):
        assert not name.startswith(("keras.src", "tensorflow.python")), name
        if name.split(".")[0] == "tensorflow":
            assert part in TENSORFLOW_IN, name
        if name.split(".")[0] in ("jax", "torch"):
            assert part == "backend", name
        if name.startswith("keras_grapes.") and rank < len(LAYERS):
            imported = name.split(".")[1]
            allowed = {n for names in LAYERS[:rank] for n in names} | {part}
            assert imported in allowed, f"{part} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_of_it_is_public(module):
    if module.startswith("keras_grapes.backend."):
        return  # What these must have, `keras_grapes.backend` says.
    module = importlib.import_module(module)
    for name in module.__all__:
        value = getattr(module, name)
        assert not name.startswith("_") or name == "__version__"
        # A module and a name of it would hide each other.
        assert inspect.ismodule(value) or f"{module.__name__}.{name}" not in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert result.failed == 0


def test_public_names_have_docstrings_with_a_running_example():
    for name in keras_grapes.__all__:
        value = getattr(keras_grapes, name)
        if callable(value):
            assert ">>>" in (value.__doc__ or ""), name
            if inspect.signature(value).parameters:
                assert "Args:" in value.__doc__, name
