"""Value relations (Wang et al. 2020, MiniLM): how the values of a text's tokens compare with one another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tledge.losses.distillation._rows import mean_of_tokens

NEEDS = "values"
LAYERS = "last"
MOST_HEADS = 12
"""Relation heads, where both widths can be divided by so many: those of the base models of the paper."""


def loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """The divergence between both relations, the mean over heads and each row's tokens, `(batch,) float32`.

    `KL(R_teacher || R_student)` with `R = softmax(V V^T / sqrt(d))` for each relation head, a slice of d of the values'
    dimensions (the slices need not be those of the attention heads: MiniLMv2, Wang et al. 2021). The relation is one of
    tokens to tokens, so that the two widths may differ.

    Args:
        student: `(batch, sequence, width)`, float: the values of the attention of a block.
        teacher: `(batch, sequence, width)`, float; the width may be another.
        mask: `(batch, sequence)`, 1 for tokens and 0 for padding, which neither relates nor is related to.
    """
    heads = relation_heads(student.shape[-1], teacher.shape[-1])
    ours, theirs = (_relation(values.float(), heads, mask) for values in (student, teacher))
    difference = theirs - ours
    if mask is not None:
        difference = difference.masked_fill(mask[:, None, None, :] == 0, 0.0)
    return mean_of_tokens((theirs.exp() * difference).sum(dim=-1).mean(dim=1), mask)


def relation_heads(first: int, second: int) -> int:
    """The most heads, `MOST_HEADS` or fewer, that divide both widths."""
    common = math.gcd(first, second)
    return max(count for count in range(1, MOST_HEADS + 1) if common % count == 0)


def _relation(values: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """The logarithm of R, `(batch, heads, sequence, sequence)`; very small where a token is padding."""
    split = values.reshape(*values.shape[:2], heads, -1).transpose(1, 2)
    scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)
    return scores.log_softmax(dim=-1)
