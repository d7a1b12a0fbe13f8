"""Whether modulation helps: arms, learning rates and seeds on any model and data, with a verdict.

Above all other parts of the package: a comparison trains as its user would.
"""

from keras_grapes.comparison.result import Comparison
from keras_grapes.comparison.statistics import Difference, paired_difference
from keras_grapes.comparison.sweep import compare

__all__ = ["Comparison", "Difference", "compare", "paired_difference"]
