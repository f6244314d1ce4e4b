"""Parity of decoders: a graph with a cache and torch, on prompts, on what follows them, and on the tokens they choose.

The reference is never torch's own decoding with a cache, which could share an error with the graph: logits are compared
with one whole pass over the same tokens, rows of a padded batch with each row alone, and chosen tokens with torch's
`generate`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from tledge.artifacts import ParityCase
from tledge.evaluate import Run
from tledge.export.decoder import cache_tensors
from tledge.export.parity import difference
from tledge.progress import Progress, silent

Array = npt.NDArray[Any]
LONGEST = 2048
"""Tokens of the longest input: the eager attention of a longer one would take gigabytes."""
GREEDY_TOKENS = 64
PIECES = (3, 1, 5, 2)
"""How many tokens follow a past at once, in turns."""
SLICE = 64
"""Positions whose logits are compared at once, which bounds the memory that it takes."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """Logits, `(batch, sequence, vocabulary)`, and the keys and values, `(batch, heads, sequence, head size)` each."""

    logits: Array
    cache: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class _Limits:
    atol: float
    rtol: float


def check_decoder(
    module: PreTrainedModel,
    graph_run: Run,
    prompts: Sequence[Sequence[int]],
    *,
    context: int,
    atol: float,
    rtol: float,
    progress: Progress = silent,
) -> tuple[ParityCase, ...]:
    """Compare a decoder's graph with torch; nothing is raised, `require` judges.

    Compared are logits, keys and values of prompts of several lengths, up to the context; the same with what was read
    before as past, token by token and several at once; a batch whose rows are padded on the left against each row
    alone; and which tokens are the likeliest while torch goes on with prompts greedily, alone and in a batch. There the
    graph reads torch's tokens, so that every step is compared: as long as all are equal, so is what the graph would
    have written. Another token than torch's passes only where torch itself gives it no more than the tolerance less;
    such near ties are counted in the case's name.

    Args:
        module: the language model in torch.
        graph_run: its graph in onnxruntime.
        prompts: token ids; at least two, of different lengths of 2 or more, so that a batch of them is padded.
        context: how many tokens the model reads.
        atol: allowed absolute difference; where the root mean square of what is compared is more than 1, so many times
            as much.
        rtol: allowed difference relative to torch's value.
        progress: shown by cases.
    """
    prompts = [list(prompt)[: max(2, context // 2)] for prompt in prompts]
    assert len({len(prompt) for prompt in prompts}) > 1, "prompts of one length leave no padding to compare"
    module = module.cpu().eval()
    shapes = [tensor.shape for tensor in _whole(module, np.array([prompts[0]])).cache]
    graph = partial(_in_pieces, graph_run, shapes)
    limits = _Limits(atol, rtol)
    checks = [*_prefills(module, graph, context, limits), *_pasts(module, graph, prompts, context, limits)]
    checks += [*_greedy_checks(module, graph, prompts, context, limits)]
    found = []
    with progress("Parity with torch", total=len(checks)) as advance:
        for check in checks:
            found.append(check())
            advance(1)
    return tuple(found)


def last_logits(module: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Array:
    """Torch's logits after each prompt, `(prompts, vocabulary) float32`: what `require` wants as reference."""
    return np.stack([_whole(module, np.array([prompt])).logits[0, -1] for prompt in prompts])


_Check = Callable[[], ParityCase]
_Graph = Callable[..., _Pass]


def _prefills(module: PreTrainedModel, graph: _Graph, context: int, limits: _Limits) -> Iterator[_Check]:
    """Whole passes over random tokens, of all lengths that differ in kind."""
    longest = min(context, LONGEST)
    for length in sorted({min(n, longest) for n in (1, 2, 3, 17, longest // 2 + 1, longest)}):
        for batch in (1, 3) if length <= SLICE else (1,):
            name = f"random tokens, batch {batch}, length {length}"
            yield partial(_alike, name, module, graph, _random(module, batch, length), [length], limits)


def _pasts(
    module: PreTrainedModel, graph: _Graph, prompts: Sequence[Sequence[int]], context: int, limits: _Limits
) -> Iterator[_Check]:
    """The same tokens as one whole pass, in pieces that follow a past; then a padded batch."""
    longest = min(context, LONGEST)
    for i, prompt in enumerate(prompts[:3], start=1):
        ids = np.array([prompt])
        yield partial(_alike, f"prompt {i}, token by token", module, graph, ids, [1] * len(prompt), limits)
        yield partial(_alike, f"prompt {i}, in pieces", module, graph, ids, _pieces(0, len(prompt)), limits)
    if longest > 3:
        sizes = [longest - 3, 1, 1, 1]
        ids = _random(module, 2 if longest <= SLICE else 1, longest)
        yield partial(_alike, f"random tokens, the last 3 of {longest} one by one", module, graph, ids, sizes, limits)
    yield partial(_rows_alone, f"{len(prompts)} prompts in one padded batch", module, graph, prompts, limits)


def _greedy_checks(
    module: PreTrainedModel, graph: _Graph, prompts: Sequence[Sequence[int]], context: int, limits: _Limits
) -> Iterator[_Check]:
    for i, prompt in enumerate(prompts[:3], start=1):
        yield partial(_greedy, f"prompt {i}", module, graph, [prompt], context, limits)
    yield partial(_greedy, f"{len(prompts)} prompts in one padded batch", module, graph, prompts, context, limits)


def _alike(
    name: str, module: PreTrainedModel, graph: _Graph, ids: Array, sizes: Sequence[int], limits: _Limits
) -> ParityCase:
    """A graph that reads tokens in pieces, and torch that reads them at once."""
    expected, got = _whole(module, ids), graph(ids, np.ones_like(ids), sizes)
    return _case(name, ids.shape, False, [(expected, got)], limits)


def _rows_alone(
    name: str, module: PreTrainedModel, graph: _Graph, prompts: Sequence[Sequence[int]], limits: _Limits
) -> ParityCase:
    """A graph that reads a batch, padded on the left, in pieces, and torch that reads each row alone, not padded."""
    ids, mask = _padded(prompts)
    shortest = min(len(prompt) for prompt in prompts)
    got = graph(ids, mask, _pieces(ids.shape[1] - shortest + 1, ids.shape[1]))
    pairs = []
    for row, prompt in enumerate(prompts):
        start = ids.shape[1] - len(prompt)
        cache = tuple(tensor[row : row + 1, :, start:] for tensor in got.cache)
        pairs.append((_whole(module, np.array([prompt])), _Pass(got.logits[row : row + 1, start:], cache)))
    return _case(name, ids.shape, True, pairs, limits)


def _greedy(
    name: str, module: PreTrainedModel, graph: _Graph, prompts: Sequence[Sequence[int]], context: int, limits: _Limits
) -> ParityCase:
    """The likeliest tokens of a graph while torch goes on with prompts greedily."""
    ids, mask = _padded(prompts)
    steps = max(1, min(GREEDY_TOKENS, context - ids.shape[1]))
    tokens, logits = _generate(module, ids, mask, steps)
    whole, seen = np.concatenate([ids, tokens[:, :-1]], 1), np.concatenate([mask, np.ones_like(tokens[:, :-1])], 1)
    got = graph(whole, seen, [ids.shape[1]] + [1] * (steps - 1)).logits[:, -steps:].argmax(-1)
    best = np.take_along_axis(logits, tokens[..., None], -1)[..., 0].astype(np.float64)
    # How much less likely than its own choice the graph's one is to torch, and how much less it may be.
    short = best - np.take_along_axis(logits, got[..., None], -1)[..., 0]
    allowed = limits.atol + limits.rtol * np.abs(best)
    other = got != tokens
    at = np.unravel_index(np.argmax(np.where(other, short - allowed, -np.inf)), short.shape)
    passed = not other.any() or bool(short[at] < allowed[at])
    name = f"{name}, {steps} tokens greedily"
    if other.any() and passed:
        name += f", {other.sum()} of them near ties that fall otherwise"
    worst = float(short[at]) if other.any() else 0.0
    return ParityCase(
        name, len(ids), ids.shape[1] + steps, not mask.all(), worst, float(allowed[at]), not other.any(), passed
    )


def _case(
    name: str, shape: tuple[int, ...], padded: bool, pairs: Iterable[tuple[_Pass, _Pass]], limits: _Limits
) -> ParityCase:
    """The furthest of all logits, keys and values; the predictions are the likeliest tokens."""
    furthest, same = (-np.inf, 0.0, limits.atol), True
    for expected, got in pairs:
        for start in range(0, expected.logits.shape[1], SLICE):
            part = slice(start, start + SLICE)
            furthest = max(furthest, _apart(expected.logits[:, part], got.logits[:, part], limits))
        for ours, theirs in zip(expected.cache, got.cache, strict=True):
            furthest = max(furthest, _apart(ours, theirs, limits))
        same = same and np.array_equal(expected.logits.argmax(-1), got.logits.argmax(-1))
    excess, worst, allowed = furthest
    return ParityCase(name, shape[0], shape[1], padded, worst, allowed, same, bool(excess <= 0))


def _apart(expected: Array, got: Array, limits: _Limits) -> tuple[float, float, float]:
    """`parity.difference`, with an absolute tolerance that grows with the size of what is compared.

    float32 rounds sums to a part of their largest terms, so that in a deep network an element near zero is off by as
    much as its neighbours are.
    """
    size = float(np.sqrt(np.mean(np.square(np.nan_to_num(expected, posinf=0, neginf=0), dtype=np.float64))))
    return difference(expected, got, limits.atol * max(1.0, size), limits.rtol)


def _whole(module: PreTrainedModel, ids: Array) -> _Pass:
    """One pass of torch over tokens without padding, `(batch, sequence)`, and without a past.

    Its cache keeps all tokens, as the graph's does; a model with a sliding window would by itself drop some.
    """
    with torch.inference_mode():
        outputs = module(input_ids=torch.from_numpy(ids), past_key_values=DynamicCache(), use_cache=True)
    cache = tuple(tensor.numpy() for tensor in cache_tensors(outputs.past_key_values))
    return _Pass(outputs.logits.numpy(), cache)


def _in_pieces(run: Run, shapes: Sequence[Sequence[int]], ids: Array, mask: Array, sizes: Sequence[int]) -> _Pass:
    """One pass of a graph for each piece of tokens, each with the keys and values of those before as its past.

    `ids` and `mask` are `(batch, sequence)`; `shapes` are those of keys and values, of which heads and head size count.
    """
    assert sum(sizes) == ids.shape[1]
    cache = [np.zeros((len(ids), shape[1], 0, shape[3]), np.float32) for shape in shapes]
    names = [f"{layer}.{kind}" for layer in range(len(cache) // 2) for kind in ("key", "value")]
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    logits, start = [], 0
    for size in sizes:
        end = start + size
        feeds = {"input_ids": ids[:, start:end], "attention_mask": mask[:, :end]}
        feeds["position_ids"] = positions[:, start:end]
        outputs = run(feeds | {f"past_key_values.{name}": tensor for name, tensor in zip(names, cache, strict=True)})
        logits.append(outputs["logits"])
        cache = [outputs[f"present.{name}"] for name in names]
        start = end
    return _Pass(np.concatenate(logits, 1), tuple(cache))


def _generate(module: PreTrainedModel, ids: Array, mask: Array, steps: int) -> tuple[Array, Array]:
    """What torch writes after prompts, `(batch, steps) int64`, and its logits, `(batch, steps, vocabulary) float32`.

    The model's own settings for generation are left out, since they may end it early or change the logits.
    """
    before = module.generation_config
    module.generation_config = GenerationConfig()
    try:
        found = module.generate(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask),
            max_new_tokens=steps,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    finally:
        module.generation_config = before
    return found.sequences[:, ids.shape[1] :].numpy(), torch.stack(found.logits, 1).float().numpy()


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Token ids and attention mask of prompts, padded on the left, `(prompts, longest) int64`."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.array([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], np.int64)
    mask = np.array([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], np.int64)
    return ids, mask


def _pieces(first: int, length: int) -> list[int]:
    """Sizes that add up to `length`: `first`, where it is one, then those of `PIECES` in turns."""
    sizes = [first] if first else []
    for size in itertools.cycle(PIECES):
        left = length - sum(sizes)
        if left == 0:
            return sizes
        sizes.append(min(size, left))
    return sizes


def _random(module: PreTrainedModel, batch: int, length: int) -> Array:
    vocabulary = module.get_input_embeddings().weight.shape[0]
    return np.random.default_rng(length).integers(0, vocabulary, (batch, length))
