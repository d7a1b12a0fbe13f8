"""Models that train by feedback alignment instead of back-propagation."""

from keras_grapes.training.direct_feedback_alignment import DirectFeedbackAlignment
from keras_grapes.training.feedback import FeedbackModel
from keras_grapes.training.feedback_alignment import FeedbackAlignment
from keras_grapes.training.indirect_feedback_alignment import IndirectFeedbackAlignment

__all__ = [
    "DirectFeedbackAlignment",
    "FeedbackAlignment",
    "FeedbackModel",
    "IndirectFeedbackAlignment",
]
