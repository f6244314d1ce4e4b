"""Attention maps (Jiao et al. 2020, TinyBERT): each token looks where it looks in the teacher."""

from __future__ import annotations

from torch import Tensor

NEEDS = "attentions"
LAYERS = "all"


def loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean squared difference of both attention maps, over heads and pairs of tokens, `(batch,) float32`.

    Where the numbers of heads differ, the mean over the heads is compared. The maps are the weights after the softmax,
    as the models that TinyBERT started from give them.

    Args:
        student: `(batch, heads, sequence, sequence)`, float.
        teacher: `(batch, heads, sequence, sequence)`, float.
        mask: `(batch, sequence)`, 1 for tokens and 0 for padding; pairs with padding do not count.
    """
    ours, theirs = student.float(), teacher.float()
    if ours.shape[1] != theirs.shape[1]:
        ours, theirs = (maps.mean(dim=1, keepdim=True) for maps in (ours, theirs))
    squares = (ours - theirs).square().mean(dim=1)
    if mask is None:
        return squares.flatten(1).mean(dim=1)
    pairs = (mask[:, :, None] * mask[:, None, :]).to(squares.dtype)
    return (squares * pairs).flatten(1).sum(dim=1) / pairs.flatten(1).sum(dim=1).clamp(min=1)
