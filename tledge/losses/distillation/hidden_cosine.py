"""The direction of hidden states (Sanh et al. 2019, DistilBERT): each token points where it does in the teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tledge.losses.distillation._rows import mean_of_tokens

NEEDS = "hidden_states"
LAYERS = "all"


def loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus the cosine of both hidden states, the mean over each row's tokens, `(batch,) float32`.

    Where the student is thinner, a linear layer that trains along has brought its states to the teacher's width, as in
    TinyBERT (Jiao et al. 2020).

    Args:
        student: `(batch, sequence, hidden)`, float.
        teacher: `(batch, sequence, hidden)`, float.
        mask: `(batch, sequence)`, 1 for tokens and 0 for padding; without it every token counts.
    """
    return mean_of_tokens(1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), mask)
