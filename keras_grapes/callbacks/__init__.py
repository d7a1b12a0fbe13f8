"""Callbacks. They observe: training is right without any of them."""

from keras_grapes.callbacks.alignment_angle import AlignmentAngle
from keras_grapes.callbacks.firing_rate import FiringRate
from keras_grapes.callbacks.learning_curve import LearningCurve
from keras_grapes.callbacks.modulation_history import ModulationHistory
from keras_grapes.callbacks.spike_recorder import SpikeRecorder
from keras_grapes.callbacks.task_accuracy import TaskAccuracy

__all__ = [
    "AlignmentAngle",
    "FiringRate",
    "LearningCurve",
    "ModulationHistory",
    "SpikeRecorder",
    "TaskAccuracy",
]
