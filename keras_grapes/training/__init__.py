"""Models that train by feedback alignment instead of back-propagation."""

from keras_grapes.training.direct_feedback_alignment import DirectFeedbackAlignment
from keras_grapes.training.direct_random_target_projection import DirectRandomTargetProjection
from keras_grapes.training.feedback import FeedbackModel
from keras_grapes.training.feedback_alignment import FeedbackAlignment
from keras_grapes.training.indirect_feedback_alignment import IndirectFeedbackAlignment
from keras_grapes.training.sign_concordant_feedback import SignConcordantFeedback

__all__ = [
    "DirectFeedbackAlignment",
    "DirectRandomTargetProjection",
    "FeedbackAlignment",
    "FeedbackModel",
    "IndirectFeedbackAlignment",
    "SignConcordantFeedback",
]
