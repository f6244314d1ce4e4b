"""Losses over a large vocabulary, some tokens at a time, so that logits of all of them are never in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 2**24
"""The most logits at once: 64 MB in float32."""

SCORED = 2**13
"""The most tokens that run together in evaluation, so that it needs no more memory than a training step."""

TokenLoss = Callable[[Tensor, slice], Tensor]
"""The logits of some tokens, `(tokens, vocabulary)`, and which ones they are, to the sum of their losses."""


@dataclass(frozen=True, slots=True)
class LanguageHead:
    """A causal language model in two halves: `hidden` gives `(batch, sequence, hidden)`, and `head` makes logits of it.

    Without a head `hidden` gives the logits themselves: some architectures do more than one product at the end.
    """

    hidden: Callable[[Mapping[str, Tensor]], Tensor]
    head: nn.Linear | None

    def logits(self, hidden: Tensor) -> Tensor:
        """`(tokens, vocabulary)` of hidden states `(tokens, hidden)`."""
        return hidden if self.head is None else self.head(hidden)


def language_head(model: Any, sample: Mapping[str, Tensor]) -> LanguageHead:
    """The halves of a model of transformers, made sure of on a batch; the model is left in eval mode.

    Blocks have no padding, and the model is not given their mask of ones: into one transformers looks before each
    step, which a GPU has to wait for, and not while a CUDA graph is captured, which then has another attention.
    """
    head, body = model.get_output_embeddings(), model.base_model

    def hidden(batch: Mapping[str, Tensor]) -> Tensor:
        return body(**_unmasked(batch), **_no_cache(model)).last_hidden_state

    def whole(batch: Mapping[str, Tensor]) -> Tensor:
        return model(**_unmasked(batch), **_no_cache(model)).logits

    if isinstance(head, nn.Linear) and body is not model:
        model.eval()
        with torch.no_grad():
            expected = model(**sample, **_no_cache(model)).logits
            if torch.allclose(head(hidden(sample)), expected, rtol=1e-4, atol=1e-5):
                return LanguageHead(hidden, head)
    return LanguageHead(whole, None)


def chunks(n_tokens: int, vocabulary: int) -> Iterator[slice]:
    """Slices of all tokens, each with no more than `CHUNK` logits."""
    size = max(1, CHUNK // vocabulary)
    for start in range(0, n_tokens, size):
        yield slice(start, min(start + size, n_tokens))


def sum_over_tokens(hidden: Tensor, head: nn.Linear | None, loss: TokenLoss) -> Tensor:
    """The sum of the losses of all tokens, with gradients for `hidden` and the head's parameters.

    Where there are more logits than a chunk holds, the gradients are computed chunk by chunk along with the losses, so
    that no logits are kept for later and none are computed twice.

    Args:
        hidden: `(tokens, hidden)`, float; with no head the logits, `(tokens, vocabulary)`.
        head: makes logits of hidden states.
        loss: the sum of the losses of some tokens, from their logits.
    """
    if len(hidden) * _width(hidden, head) <= CHUNK:
        return loss(hidden if head is None else head(hidden), slice(0, len(hidden)))
    weight, bias = (None, None) if head is None else (head.weight, head.bias)
    result: Tensor = _Sum.apply(hidden, weight, bias, loss)
    return result


def token_losses(hidden: Tensor, head: nn.Linear | None, targets: Tensor) -> Tensor:
    """The negative log-probability of each target, `(tokens,) float32`, without gradients for later.

    Args:
        hidden: `(tokens, hidden)`, float; with no head the logits, `(tokens, vocabulary)`.
        head: makes logits of hidden states.
        targets: `(tokens,) int64`.
    """
    parts = [
        F.cross_entropy((hidden[part] if head is None else head(hidden[part])).float(), targets[part], reduction="none")
        for part in chunks(len(hidden), _width(hidden, head))
    ]
    return torch.cat(parts)


def block_losses(speaks: LanguageHead, inputs: Mapping[str, Tensor]) -> Tensor:
    """The negative log-probability of each predicted token, `(batch, sequence - 1) float32`.

    Args:
        speaks: the model.
        inputs: `input_ids` and `attention_mask`, `(batch, sequence) int64`; some rows at a time run together.
    """
    n_rows, length = inputs["input_ids"].shape
    size = max(1, SCORED // length)
    parts = []
    for start in range(0, n_rows, size):
        some = {name: each[start : start + size] for name, each in inputs.items()}
        states, targets = speaks.hidden(some)[:, :-1].flatten(0, 1), some["input_ids"][:, 1:].flatten()
        parts.append(token_losses(states, speaks.head, targets))
    return torch.cat(parts).reshape(n_rows, length - 1)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor | None, bias: Tensor | None, loss: TokenLoss) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        grads = [
            torch.zeros_like(each) if needed and each is not None else None
            for each, needed in zip((hidden, weight, bias), wanted, strict=True)
        ]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for part in chunks(len(hidden), hidden.shape[1] if weight is None else weight.shape[0]):
            states = hidden[part]
            logits = (states if weight is None else F.linear(states, weight, bias)).detach()
            with torch.set_grad_enabled(any(wanted)):
                value = loss(logits.requires_grad_(any(wanted)), part)
            total += value.detach()
            if any(wanted):
                (slope,) = torch.autograd.grad(value, logits)
                _add(grads, part, states, weight, slope)
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if each is None else each.mul_(slope) for each in ctx.saved_tensors), None)


def _add(grads: list[Tensor | None], part: slice, states: Tensor, weight: Tensor | None, slope: Tensor) -> None:
    """Add what a chunk gives to the gradients of the hidden states, the weight and the bias."""
    of_hidden, of_weight, of_bias = grads
    if of_hidden is not None:
        of_hidden[part] = slope if weight is None else slope @ weight.to(slope.dtype)
    if of_weight is not None:
        if slope.dtype == of_weight.dtype == states.dtype:
            of_weight.addmm_(slope.T, states)
        else:
            of_weight += slope.T @ states.to(slope.dtype)
    if of_bias is not None:
        of_bias += slope.sum(dim=0)


def _width(hidden: Tensor, head: nn.Linear | None) -> int:
    """The size of the vocabulary."""
    return hidden.shape[1] if head is None else head.out_features


def _unmasked(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each for name, each in batch.items() if name != "attention_mask"}


def _no_cache(model: Any) -> dict[str, Any]:
    return {"use_cache": False} if getattr(model.config, "use_cache", None) else {}
