"""Training: Hugging Face's Trainer with tledge's losses, scores and resume."""

from tledge.train.fit import Epoch, Fitted, fit, label_weights, main_first, seed

__all__ = ["Epoch", "Fitted", "fit", "label_weights", "main_first", "seed"]
