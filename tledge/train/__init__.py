"""Training: Hugging Face's Trainer with tledge's losses, scores and resume."""

from tledge.train.augment import Augment, contact_sheet
from tledge.train.fit import Epoch, Fitted, fit, main_first, seed
from tledge.train.learning_rate import RateFinder
from tledge.train.mix import Mix
from tledge.train.objective import Loss, Objective, supervised
from tledge.train.weights import label_weights

__all__ = [
    "Augment",
    "Epoch",
    "Fitted",
    "Loss",
    "Mix",
    "Objective",
    "RateFinder",
    "contact_sheet",
    "fit",
    "label_weights",
    "main_first",
    "seed",
    "supervised",
]
