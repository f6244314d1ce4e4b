"""Training: one loop for all tasks, with tledge's losses, scores and resume."""

from tledge.train.alignment import ALIGNING, Aligned, Alongside, aligning, recoloured
from tledge.train.answering import Answers, answers, labelled, row_losses
from tledge.train.distill import DEFAULT_WEIGHTS, distill, has_hidden, weights_for
from tledge.train.fit import Fitted, fit, main_first, seed
from tledge.train.intermediate import Pairing
from tledge.train.language import NextToken, TokenBlocks
from tledge.train.learning_rate import RateFinder
from tledge.train.masked import JUDGED, HiddenTokens, MaskedBlocks, hidden_loss
from tledge.train.mix import Mix
from tledge.train.objective import Loss, Objective, detecting, relating, supervised
from tledge.train.plan import Epoch, Plan, Scoring, Sets
from tledge.train.row_distillation import RowTargets
from tledge.train.token_distillation import TokenTargets, token_loss
from tledge.train.weights import label_weights

__all__ = [
    "ALIGNING",
    "DEFAULT_WEIGHTS",
    "JUDGED",
    "Aligned",
    "Alongside",
    "Answers",
    "Epoch",
    "Fitted",
    "HiddenTokens",
    "Loss",
    "MaskedBlocks",
    "Mix",
    "NextToken",
    "Objective",
    "Pairing",
    "Plan",
    "RateFinder",
    "RowTargets",
    "Scoring",
    "Sets",
    "TokenBlocks",
    "TokenTargets",
    "aligning",
    "answers",
    "detecting",
    "distill",
    "fit",
    "has_hidden",
    "hidden_loss",
    "label_weights",
    "labelled",
    "main_first",
    "recoloured",
    "relating",
    "row_losses",
    "seed",
    "supervised",
    "token_loss",
    "weights_for",
]
