"""Training: Hugging Face's Trainer with tledge's losses, scores and resume."""

from tledge.train.fit import Epoch, Fitted, fit, label_weights, seed
from tledge.train.processes import is_main, main_first

__all__ = ["Epoch", "Fitted", "fit", "is_main", "label_weights", "main_first", "seed"]
