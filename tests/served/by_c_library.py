"""Serves the exported models of a folder by TensorFlow's C library: no Python of TensorFlow runs.

Arguments: the shared library, the folder.
"""

import ctypes
import json
import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

# TensorFlow's numbers for its types.
TYPES = {"float32": 1, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "float16": 19}
DTYPES = {number: dtype for dtype, number in TYPES.items()}

tf = ctypes.CDLL(sys.argv[1])


class Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


for name, result in {
    "TF_NewStatus": ctypes.c_void_p,
    "TF_NewGraph": ctypes.c_void_p,
    "TF_NewSessionOptions": ctypes.c_void_p,
    "TF_LoadSessionFromSavedModel": ctypes.c_void_p,
    "TF_GraphOperationByName": ctypes.c_void_p,
    "TF_AllocateTensor": ctypes.c_void_p,
    "TF_TensorData": ctypes.c_void_p,
    "TF_TensorByteSize": ctypes.c_size_t,
    "TF_Dim": ctypes.c_int64,
    "TF_Message": ctypes.c_char_p,
}.items():
    getattr(tf, name).restype = result

status = ctypes.c_void_p(tf.TF_NewStatus())


def check():
    if tf.TF_GetCode(status):
        sys.exit(tf.TF_Message(status).decode())


def to_tensor(array):
    array = np.ascontiguousarray(array)
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = tf.TF_AllocateTensor(
        TYPES[array.dtype.name], shape, array.ndim, ctypes.c_size_t(array.nbytes)
    )
    data = tf.TF_TensorData(ctypes.c_void_p(tensor))
    ctypes.memmove(data, array.ctypes.data, array.nbytes)
    return tensor


def to_array(tensor):
    tensor = ctypes.c_void_p(tensor)
    shape = [tf.TF_Dim(tensor, axis) for axis in range(tf.TF_NumDims(tensor))]
    data = ctypes.string_at(tf.TF_TensorData(tensor), tf.TF_TensorByteSize(tensor))
    return np.frombuffer(data, DTYPES[tf.TF_TensorType(tensor)]).reshape(shape)


def run(folder, inputs, output_names):
    """Values of the tensors `output_names`, given those of the tensors `inputs`."""
    graph = ctypes.c_void_p(tf.TF_NewGraph())
    tags = (ctypes.c_char_p * 1)(b"serve")
    options = ctypes.c_void_p(tf.TF_NewSessionOptions())
    session = ctypes.c_void_p(
        tf.TF_LoadSessionFromSavedModel(
            options, None, os.fsencode(folder), tags, 1, graph, None, status
        )
    )
    check()

    def find(names):
        found = (Output * len(names))()
        for place, name in enumerate(names):
            operation, index = name.split(":")
            found[place].operation = tf.TF_GraphOperationByName(graph, operation.encode())
            found[place].index = int(index)
        return found

    values = (ctypes.c_void_p * len(inputs))(*map(to_tensor, inputs.values()))
    results = (ctypes.c_void_p * len(output_names))()
    tf.TF_SessionRun(
        session,
        None,
        *(find(list(inputs)), values, len(inputs)),
        *(find(output_names), results, len(output_names)),
        *(None, 0, None, status),
    )
    check()
    return [to_array(result) for result in results]


for data in sorted(pathlib.Path(sys.argv[2]).glob("*.npz")):
    arrays = np.load(data)
    if any(arrays[name].dtype.kind in "SU" for name in arrays):
        continue  # Strings have a layout of their own in C.
    signature = json.loads(data.with_suffix(".json").read_text())
    inputs = {tensor: arrays[f"in:{name}"] for name, tensor in signature["inputs"].items()}
    names = list(signature["outputs"])
    outputs = run(data.with_suffix("") / "1", inputs, list(signature["outputs"].values()))
    for name, value in zip(names, outputs, strict=True):
        np.testing.assert_allclose(value, arrays[f"out:{name}"], atol=2e-6, err_msg=data.stem)
    print("served", data.stem)
