"""Networks as graphs of the Neuromorphic Intermediate Representation (NIR), to and from files."""

from keras_grapes.nir.reading import import_nir
from keras_grapes.nir.writing import export_nir

__all__ = ["export_nir", "import_nir"]
