"""Export for serving: the forward pass of a model, and nothing else."""

import contextlib
import keyword
import os
import pathlib
import re
import shutil
import uuid
from typing import Any

import keras

from keras_grapes import backend, graph
from keras_grapes.training import feedback

__all__ = ["export_saved_model"]

if backend.name == "tensorflow":
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

_GRAPH = "saved_model.pb"


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    input_signature: Any = None,
    overwrite: bool = False,
) -> str | os.PathLike:
    """Writes the forward pass of a model as a SavedModel, to serve without this package.

    The SavedModel holds the forward pass of the model in inference mode as a TensorFlow graph with
    the signature `serving_default`, and each weight that inference uses once. It holds nothing of
    training: no modulation, feedback kernels, pseudo-derivatives or other custom gradients, and no
    optimizer. TensorFlow Serving, `saved_model_cli`, `tf.saved_model.load` and the TensorFlow
    libraries of other languages can load it.

    TensorFlow Serving serves the highest number among the folders of a model, so export to
    `"served/digits/1"`, then to `"served/digits/2"`. The folder gets its name when it is complete,
    so that a server that watches `served/digits` never sees half a model.

    The inputs have the names of the model's `keras.Input`s, or their keys where the model takes a
    dict; the outputs have the names of the layers that they come from, or their keys where the
    model returns a dict. TensorFlow takes ASCII letters, digits and `_` in the names of inputs:
    other characters become `_`. The batch size is free, except for stateful recurrent layers, and
    so is every axis that is `None` in the `keras.Input`. The graph computes what `model.predict`
    computes. `keras_grapes.RateCoding` and other layers that draw random numbers in inference draw
    new ones for every request.

    Args:
        model: A built `keras.Model`, propagated, plain, spiking or one of the feedback models. It
            does not change.
        path: String or path, the folder to write, one per version, such as
            `"served/digits/1"`. Folders above it are created.
        input_signature: A `keras.Input`, `keras.InputSpec` or `tf.TensorSpec` with the name, shape
            and dtype of the input, or a dict of them; a list of them stands for several positional
            arguments of `model`. Subclassed models need it. Defaults to `None`, the inputs of the
            model's graph.
        overwrite: Bool, whether to replace a SavedModel at `path`. A server that has loaded it does
            not notice. Defaults to `False`.

    Returns:
        A `pathlib.Path`, the folder.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is something at `path`, except an empty folder or, with `overwrite`, a
            SavedModel; if `model` is not built; if `input_signature` is missing; or on a backend
            of Keras other than TensorFlow.

    Example:

    >>> import pathlib, tempfile
    >>> import keras
    >>> import keras_grapes as kg
    >>> import tensorflow as tf
    >>> model = kg.propagate(keras.Sequential([
    ...     keras.Input((4,), name="flower"),
    ...     keras.layers.Dense(8, activation="relu"),
    ...     keras.layers.Dense(3, activation="softmax", name="species"),
    ... ]))
    >>> folder = kg.export_saved_model(model, pathlib.Path(tempfile.mkdtemp()) / "flowers" / "1")
    >>> served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    >>> {name: y.shape for name, y in served(flower=tf.ones((2, 4))).items()}
    {'species': TensorShape([2, 3])}
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`export_saved_model` takes a `keras.Model`. Received: "
            f"model={model!r} of type {type(model).__name__}{graph.keras_2_hint(model)}"
        )
    if backend.name != "tensorflow":
        raise ValueError(
            "`export_saved_model` writes a graph of TensorFlow, and needs Keras's backend "
            f"'tensorflow'. Received: a model '{model.name}' on the backend '{backend.name}'. Save "
            "it by `model.save('model.keras')`, and load and export it in a process that has "
            "KERAS_BACKEND=tensorflow."
        )
    path = _check_path(path, overwrite)
    if isinstance(model, feedback.FeedbackModel):
        model = model.model
    arguments = _arguments(model, input_signature)
    serve = _trace(model, arguments)
    with _new_folder(path, overwrite) as folder:
        tf.saved_model.save(
            _used_by(serve, model),
            str(folder),
            signatures={"serving_default": serve},
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        _remove_custom_gradients(folder)
    return path


def _check_path(path, overwrite):
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            "`path` must be a string or a path, the folder of a version such as "
            f"'served/digits/1'. Received: path={path!r} of type {type(path).__name__}"
        )
    if "://" in str(path):
        raise ValueError(
            "`path` must be a local folder. Export to one, and copy it with the tools of your "
            f"storage. Received: path={str(path)!r}"
        )
    path = pathlib.Path(path).expanduser().absolute()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return path
    if not (path / _GRAPH).is_file():
        raise ValueError(
            "`path` must be a new folder. Received one where something else than a SavedModel "
            f"is: {path}"
        )
    if not overwrite:
        raise ValueError(
            f"`path` holds a SavedModel already: {path}. Export the new version beside it, to "
            "the next number, or pass overwrite=True."
        )
    return path


def _arguments(model, input_signature):
    """Returns the structure of `tf.TensorSpec`s of every positional argument of a model."""
    if not model.built:
        raise ValueError(
            f"`export_saved_model` writes weights, and model '{model.name}' has none yet. Give it "
            "a `keras.Input`, or call it on data first."
        )
    if input_signature is None:
        if not graph.is_functional(model):
            raise ValueError(
                f"`input_signature` is missing: the subclassed model '{model.name}' of type "
                f"{type(model).__name__} does not tell its inputs. Pass them, for example "
                "input_signature=keras.Input((784,), name='image')."
            )
        input_signature = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        input_signature = [input_signature]
    elif not isinstance(input_signature, (list, tuple)):
        input_signature = [input_signature]
    stateful = any(getattr(layer, "stateful", False) for layer in graph.all_layers(model))

    def spec(tensor, name):
        shape = tuple(tensor.shape)
        if shape and not stateful:
            shape = (None, *shape[1:])
        return tf.TensorSpec(shape, tensor.dtype, name)

    tensors = keras.tree.flatten(input_signature)
    kinds = (keras.KerasTensor, keras.layers.InputSpec, tf.TensorSpec)
    if not all(isinstance(t, kinds) and tf.TensorShape(t.shape).rank is not None for t in tensors):
        raise TypeError(
            "`input_signature` must be a `keras.Input`, `keras.InputSpec` or `tf.TensorSpec` with "
            f"a shape, or a dict or list of them. Received: input_signature={input_signature!r}"
        )
    names = [graph.tensor_name(tensor) or "inputs" for tensor in tensors]
    names = _names(input_signature, names, _as_argument)
    specs = [spec(tensor, name) for tensor, name in zip(tensors, names)]
    return keras.tree.pack_sequence_as(list(input_signature), specs)


def _as_argument(name):
    """The form that TensorFlow gives the names of a function's arguments."""
    name = re.sub("[^A-Za-z0-9_]", "_", name)
    if keyword.iskeyword(name) or name == "self":
        return f"{name}_"
    return name if name[0].isalpha() else f"arg_{name}"


def _names(structure, names, form=str):
    """One name for each leaf: its keys where it is in a dict, else the one of `names`."""
    unique = []
    for (keys, _), name in zip(keras.tree.flatten_with_path(structure), names, strict=True):
        while keys and not isinstance(keys[0], str):
            keys = keys[1:]
        name = base = form("_".join(map(str, keys)) or name)
        count = 0
        while name in unique:
            count += 1
            name = f"{base}_{count}"
        unique.append(name)
    return unique


def _trace(model, arguments):
    """Returns the inference of a model as a function of named tensors to a dict of tensors."""
    output_names = None
    if graph.has_graph(model):
        output_names = [graph.tensor_name(tensor) for tensor in model.outputs]
    specs = {spec.name: spec for spec in keras.tree.flatten(arguments)}

    @tf.function(autograph=False)
    def serve(**tensors):
        flat = [tensors[name] for name in specs]
        outputs = model(*keras.tree.pack_sequence_as(arguments, flat), training=False)
        flat = keras.tree.flatten(outputs)
        names = output_names or [f"output_{place}" for place in range(len(flat))]
        return dict(zip(_names(outputs, names), flat, strict=True))

    return serve.get_concrete_function(**specs)


def _used_by(serve, model):
    """Holds the variables and lookup tables of a function: what a SavedModel has to track."""
    holder = tf.Module()
    holder.weights = sorted(serve.variables, key=lambda variable: variable.name)
    holder.tables = [
        value
        for value in graph.held_objects(model)
        if isinstance(value, tf.saved_model.experimental.TrackableResource)
    ]
    return holder


@contextlib.contextmanager
def _new_folder(path, overwrite):
    """Yields a folder beside `path` that gets its name once it is written."""
    # No version number for a server that looks at the parent folder.
    new, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex}.{age}") for age in ("new", "old"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield new
        if overwrite and path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _remove_custom_gradients(folder):
    """Rewrites the graph in `folder` without custom gradients."""
    saved = saved_model_pb2.SavedModel.FromString((folder / _GRAPH).read_bytes())
    (meta_graph,) = saved.meta_graphs
    functions = meta_graph.graph_def.library.function
    if not any([_bypass_custom_gradients(function) for function in functions]):
        return
    nodes = [meta_graph.graph_def.node, *(function.node_def for function in functions)]
    used = {node.op for each in nodes for node in each}
    known = meta_graph.meta_info_def.stripped_op_list.op
    kept = [operation for operation in known if operation.name in used]
    del known[:]
    known.extend(kept)
    (folder / _GRAPH).write_bytes(saved.SerializeToString(deterministic=True))
    # It is that of the graph before.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _bypass_custom_gradients(function):
    """Removes custom gradients, and what they alone need, from a `FunctionDef`.

    TensorFlow marks them by an `IdentityN` that takes what the gradient depends on: of an
    `ErrorModulation` the factors are among it.
    """
    marks = {
        node.name: list(node.input)
        for node in function.node_def
        if node.op == "IdentityN" and "_gradient_op_type" in node.attr
    }
    if not marks:
        return False

    def source(reference):
        name, _, place = reference.partition(":output:")
        return source(marks[name][int(place)]) if name in marks else reference

    for node in function.node_def:
        node.input[:] = [source(reference) for reference in node.input]
    for name, reference in function.ret.items():
        function.ret[name] = source(reference)
    nodes = {node.name: node for node in function.node_def}
    needed, pending = set(), [*function.ret.values(), *function.control_ret.values()]
    while pending:
        name = pending.pop().removeprefix("^").partition(":")[0]
        if name in nodes and name not in needed:
            needed.add(name)
            pending.extend(nodes[name].input)
    kept = [node for node in function.node_def if node.name in needed]
    for node in kept:
        if node.name in marks:
            del node.attr["_gradient_op_type"]
    del function.node_def[:]
    function.node_def.extend(kept)
    return True
