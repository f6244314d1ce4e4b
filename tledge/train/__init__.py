"""Training: Hugging Face's Trainer with tledge's losses, scores and resume."""

from tledge.train.augment import Augment, contact_sheet
from tledge.train.distill import DEFAULT_WEIGHTS, distill, has_hidden, weights_for
from tledge.train.fit import Epoch, Fitted, fit, main_first, seed
from tledge.train.knowledge import Pairing
from tledge.train.language import NextToken, TokenBlocks
from tledge.train.language_lesson import OfTokens, language_lesson
from tledge.train.learning_rate import RateFinder
from tledge.train.lesson import OfRows
from tledge.train.mix import Mix
from tledge.train.objective import Loss, Objective, supervised
from tledge.train.plan import Plan, Scoring, Sets
from tledge.train.weights import label_weights

__all__ = [
    "DEFAULT_WEIGHTS",
    "Augment",
    "Epoch",
    "Fitted",
    "Loss",
    "Mix",
    "NextToken",
    "Objective",
    "OfRows",
    "OfTokens",
    "Pairing",
    "Plan",
    "RateFinder",
    "Scoring",
    "Sets",
    "TokenBlocks",
    "contact_sheet",
    "distill",
    "fit",
    "has_hidden",
    "label_weights",
    "language_lesson",
    "main_first",
    "seed",
    "supervised",
    "weights_for",
]
