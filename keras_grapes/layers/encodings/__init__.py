"""Encodings of values as spikes, beside rate coding."""

from keras_grapes.layers.encodings.delta import DeltaCoding, delta_code
from keras_grapes.layers.encodings.latency import LatencyCoding, latency_code
from keras_grapes.layers.encodings.population import PopulationCoding, population_code

__all__ = [
    "DeltaCoding",
    "LatencyCoding",
    "PopulationCoding",
    "delta_code",
    "latency_code",
    "population_code",
]
