"""Language models that go on with prompts: the time to the first token, of each further one, and tokens a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tledge.artifacts import Generation
from tledge.bench import latency, stats
from tledge.evaluate import Array
from tledge.progress import Progress, silent
from tledge.runtime.decoder import Decoder

PROMPTS = (16, 128)
"""Tokens of the prompts unless others are asked for or the context is shorter."""
NEW_TOKENS = 32
WARM_UP = 2
"""Generations of each candidate that are not counted; each has many runs."""

Generate = Callable[[Array, int], Iterator[object]]
"""Goes on with prompts, `(batch, prompt) int64`, by so many tokens a row, greedily and past an end-of-text token;
yields once for each new token of all rows, when it is chosen."""


@dataclass(frozen=True, slots=True)
class Pace:
    """One generation: when each token of it came, in milliseconds after the generation began."""

    at_ms: tuple[float, ...]

    @property
    def first_ms(self) -> float:
        """The time to the first token: the pass over the prompt, and the choice."""
        return self.at_ms[0]

    @property
    def token_ms(self) -> tuple[float, ...]:
        """The time of each further token."""
        return tuple(late - early for early, late in zip(self.at_ms, self.at_ms[1:], strict=False))

    @property
    def whole_ms(self) -> float:
        """The time of the whole generation."""
        return self.at_ms[-1]


def random_prompts(vocab_size: int, batch: int, length: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Prompts of random tokens, `(batch, length) int64`: what they say makes no difference to the time."""
    return np.random.default_rng(seed).integers(0, vocab_size, (batch, length), dtype=np.int64)


def measure(
    candidates: Mapping[str, Generate],
    prompts: Array,
    *,
    new_tokens: int = NEW_TOKENS,
    reference: str,
    percentile: float = 90,
    duration_s: float = 120.0,
    description: str = "Generating",
    progress: Progress = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[Pace]]:
    """Generations of each candidate from the same prompts, in turn as in `latency.measure`, after warming up.

    There are as many rounds as the percentile needs for the first token, at least 100, or as many as fit into the time
    limit, at least one.

    Args:
        candidates: What generates, by name.
        prompts: Token ids, `(batch, prompt) int64`.
        new_tokens: Tokens after each prompt, 2 or more.
        reference: The candidate that the others are compared with; it must be among them.
        percentile: The percentile that there shall be enough samples for, in percent.
        duration_s: Time limit, warm-up included.
        description: What the progress bar says.
        progress: Shows the rounds.
        clock: Nanoseconds that only grow.

    Raises:
        RecipeError: the reference is not among the candidates.
    """
    paces: dict[str, list[Pace]] = {name: [] for name in candidates}

    def timed(name: str) -> Callable[[], None]:
        return lambda: paces[name].append(_pace(candidates[name](prompts, new_tokens), clock))

    rounds = latency.measure(
        {name: timed(name) for name in candidates},
        reference=reference,
        percentile=percentile,
        duration_s=duration_s,
        warmup=WARM_UP,
        description=description,
        progress=progress,
        clock=clock,
    )
    return {name: paces[name][-len(samples) :] for name, samples in rounds.items()}  # the first ones warmed up


def summarize(
    paces: Mapping[str, Sequence[Pace]],
    *,
    candidate: str,
    reference: str,
    batch: int,
    prompt: int,
    new_tokens: int,
    threads: int,
    percentile: float = 90,
    seed: int = 0,
) -> Generation:
    """One candidate's row of an interleaved run, with its ratio to the reference (None for that itself).

    Tokens a second are all new tokens over the time of all generations, so that a slow one counts with all its time.

    Args:
        paces: What `measure` gave.
        candidate: The row's candidate.
        reference: The candidate to compare with.
        batch: Prompts in one generation.
        prompt: Tokens of each prompt.
        new_tokens: Tokens after each prompt.
        threads: Threads of one run.
        percentile: Percentile asked for, in percent; it comes beside p50, p90, p95 and p99.
        seed: Of the bootstrap.
    """
    own = paces[candidate]
    whole = [pace.whole_ms for pace in own]
    first, missing = latency.estimates([pace.first_ms for pace in own], percentile)
    token, token_missing = latency.estimates([ms for pace in own for ms in pace.token_ms], percentile)
    low_ms, high_ms = stats.mean_interval(whole, seed=seed)
    tokens = 1e3 * batch * new_tokens
    against = [pace.whole_ms for pace in paces[reference]]
    return Generation(
        candidate=candidate,
        batch=batch,
        prompt=prompt,
        new_tokens=new_tokens,
        threads=threads,
        samples=len(own),
        first_token_ms=first,
        token_ms=token,
        tokens_per_second=tokens * len(whole) / sum(whole),
        low=tokens / high_ms,
        high=tokens / low_ms,
        missing=missing,
        token_missing=token_missing,
        against=None if candidate == reference else stats.paired_ratio(whole, against, name=reference),
    )


def decoder_generate(decoder: Decoder) -> Generate:
    """A decoder's graph, as `runtime.generate.Generator` runs it: the prompt in one or two passes, then token by token.

    The logits of each step are in numpy, where the likeliest token is taken.
    """

    def generate(input_ids: Array, new_tokens: int) -> Iterator[object]:
        tokens = decoder.prefill(input_ids, room=new_tokens).argmax(axis=1)
        yield tokens
        for _ in range(new_tokens - 1):
            tokens = decoder.step(tokens).argmax(axis=1)
            yield tokens

    return generate


def setting(batch: int, prompt: int, new_tokens: int, threads: int) -> str:
    """A setting in words: `batch 1, 32 tokens after 128, 1 thread`."""
    return f"batch {batch}, {new_tokens} tokens after {prompt}, {threads} thread{'' if threads == 1 else 's'}"


def _pace(tokens: Iterator[object], clock: Callable[[], int]) -> Pace:
    start = clock()
    at = [clock() - start for _ in tokens]
    # A coarse clock may not have moved, and a ratio needs positive numbers.
    return Pace(tuple(max(ns, count) / 1e6 for count, ns in enumerate(at, 1)))
