"""Two graphs against each other: paired, interleaved rounds in freshly opened sessions, and the host's noise first.

What is easily taken for a difference between two graphs, and how it is kept out:

- The machine drifts: both run within one round, and a round's ratio is what counts.
- The run after a pause finds cold caches: rounds go ABBA and BAAB by turns, so that each is first equally often.
- Neighbours take the core away in the middle of a run: where a run has one thread on the CPU, its processor time is
  compared. Where one side waits in every run, and the other less, the interval spans the wall's clock too.
- Two sessions of the same file differ by one or two percent, by where their memory lies, and the one opened first is
  often the slower one: sessions are opened anew many times, by turns this one and that one first, and the interval
  counts openings, not only rounds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tledge.artifacts import Comparison, LatencyRatio
from tledge.bench.isolate import isolated_timer
from tledge.bench.latency import no_garbage_collection
from tledge.bench.targets import Target, shared
from tledge.evaluate import Array
from tledge.progress import Progress, silent
from tledge.runtime.session import PROVIDERS, bound_run, open_session

WITHIN = 0.02
"""The difference that matters unless another is asked for, as a share of the reference's time."""
DURATION_S = 8.0
NOISE_SHARE = 0.35
"""The part of the time that the reference against itself takes."""
MIN_BLOCKS = 6
"""Openings in either order; fewer say nothing about what a fresh opening may change."""
MAX_BLOCKS = 100
MAX_ROUNDS = 20
"""Rounds of one opening: its later ones say little that is new, and a graph of microseconds would have thousands."""
RESAMPLES = 2000
WALL, CPU = 0, 1
_WARM_UP = 2
_FINE_S = 1e-6
"""Windows counts processor time in steps of milliseconds."""
INCONCLUSIVE = "inconclusive"
_ROUNDS_S = 0.1
"""The least time in one opening's rounds."""

Timer = Callable[[], tuple[int, int]]
"""Runs once and gives the nanoseconds it took, by the clock on the wall and of this thread's processor time."""
Round = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
Open = Callable[[Target], AbstractContextManager[Timer]]
"""Opens a target for timing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """How a target is run."""

    batch: int = 1
    length: int | None = None
    threads: int = 1
    provider: str = "cpu"
    strict: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """The runs of one opening in milliseconds, `(rounds, 2, 2)` of each side: round, run, and clock (`WALL`, `CPU`).

    A round's two runs of a side stand beside those of the other side that they were next to.
    """

    candidate: npt.NDArray[np.float64]
    reference: npt.NDArray[np.float64]

    def log_ratios(self, clock: int) -> npt.NDArray[np.float64]:
        """Of each pair of neighbouring runs, `(2 * rounds,)`."""
        return np.asarray(np.log(self.candidate[..., clock]) - np.log(self.reference[..., clock])).ravel()


def compare(
    new: Target,
    old: Target,
    *,
    setting: Setting | None = None,
    within: float = WITHIN,
    duration_s: float = DURATION_S,
    isolate: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Which of two graphs is faster at one setting, and whether this host can tell.

    The old one is measured against itself first. A measurement ends when its interval is narrow enough for the
    question, a quarter of `within` to either side, or when its time is over; never because of what it shows.

    Args:
        new: The candidate.
        old: The reference.
        setting: Batch, length, threads and provider of both.
        within: The difference that matters, as a share of the old one's time.
        duration_s: Time limit of both measurements together, in seconds; six openings in each order are made
            whatever they take.
        isolate: Give each side a process of its own, on the same cores, instead of a session in this process.
        progress: Shows the rounds.

    Raises:
        BundleError: a graph cannot be loaded or run.
        InputError: the provider is not there, or strict and leaves work to the CPU, or a model does not take the batch
            or the length.
    """
    setting = setting or Setting()
    batch, length = shared(new, old, setting.batch, setting.length)
    setting = dataclasses.replace(setting, batch=batch, length=length)

    if setting.strict:
        for target in (new, old):
            open_session(target.graph, provider=setting.provider, threads=setting.threads, strict=True)
    timer, clock = (isolated_timer if isolate else session_timer), _clock(setting)

    def opener(target: Target) -> AbstractContextManager[Timer]:
        feeds = target.feeds(setting.batch, setting.length)
        return timer(target.graph, feeds, provider=setting.provider, threads=setting.threads)

    with no_garbage_collection():
        timed = functools.partial(measure, opener=opener, clock=clock, within=within, progress=progress)
        same = timed(old, old, duration_s=duration_s * NOISE_SHARE, description=f"Timing {old.name} against itself")
        pairs = timed(new, old, duration_s=duration_s * (1 - NOISE_SHARE), description=f"Timing {new.name} against it")
    ratio, wall = (estimate(pairs, old.name, each) for each in (clock, WALL))
    noise = estimate(same, old.name, clock)
    unlike = not _meet(ratio, wall) and _wait_unlike(pairs, within)
    if unlike:
        ratio = dataclasses.replace(ratio, low=min(ratio.low, wall.low), high=max(ratio.high, wall.high))
    answer, reason = decide(ratio, noise, within)
    if unlike:
        reason += "; the runs wait unalike, so the interval spans processor time and the wall's clock"
    return Comparison(
        candidate=new.name,
        reference=old.name,
        batch=setting.batch,
        sequence=setting.length,
        threads=setting.threads,
        provider=setting.provider,
        ratio=ratio,
        noise=noise,
        within=within,
        answer=answer,
        reason=reason,
        candidate_ms=float(np.median(np.concatenate([p.candidate[..., WALL] for p in pairs]))),
        reference_ms=float(np.median(np.concatenate([p.reference[..., WALL] for p in pairs]))),
        isolated=isolate,
        clock=("wall", "processor")[clock],
        wall=wall,
    )


def decide(ratio: LatencyRatio, noise: LatencyRatio, within: float) -> tuple[str, str]:
    """The answer `faster`, `slower`, `same` or `inconclusive`, and its reason. Pure.

    The answer is `same` when the whole interval is within the difference that matters, and `faster` or `slower` when
    all of it is on one side of 1 and the difference is more than the reference showed against itself.
    """
    floor = max(noise.high, 1 / noise.low) - 1
    shown = _shown(ratio)
    if 1 / (1 + within) <= ratio.low and ratio.high <= 1 + within:
        return "same", f"within {within:.1%}: {shown}"
    if ratio.high < 1 and 1 / ratio.ratio - 1 > floor:
        return "faster", f"{shown} of the time"
    if ratio.low > 1 and ratio.ratio - 1 > floor:
        return "slower", f"{shown} of the time"
    return INCONCLUSIVE, (
        f"{shown} of the time does not tell whether it is within {within:.1%}; this host shows up to {floor:.1%} "
        "between a graph and itself: measure longer or on a quieter machine"
    )


def measure(
    candidate: Target,
    reference: Target,
    opener: Open,
    *,
    clock: int,
    within: float,
    duration_s: float,
    description: str = "Timing",
    progress: Progress = silent,
    now: Callable[[], float] = time.monotonic,
) -> list[Paired]:
    """Openings by turns candidate first and reference first, an even number of them, each with its rounds."""
    found: list[Paired] = []
    start = now()
    with progress(description, total=100) as advance:
        shown = 0
        while True:
            for swap in (False, True):
                found.append(_opening(candidate, reference, opener, swap, duration_s / (2 * MIN_BLOCKS), now))
            gone = now() - start
            done = min(100, round(100 * max(gone / duration_s, 0)))
            advance(done - shown)
            shown = done
            if len(found) < 2 * MIN_BLOCKS:
                continue
            over = gone * (1 + 2 / len(found)) > duration_s or len(found) >= 2 * MAX_BLOCKS
            if over or precise(estimate(found, reference.name, clock), within):
                advance(100 - shown)
                return found


def _opening(
    candidate: Target, reference: Target, opener: Open, swap: bool, seconds: float, now: Callable[[], float]
) -> Paired:
    """One opening that keeps to the seconds, where opening alone does not take longer."""
    start = now()
    first, second = (reference, candidate) if swap else (candidate, reference)
    rounds: list[Round] = []
    with opener(first) as a, opener(second) as b:
        for _ in range(_WARM_UP):
            a()
            b()
        opened = now()
        took = opened - start
        limit = max(_ROUNDS_S, min(took, seconds - took))  # as long in rounds as it took to open
        while len(rounds) < 2 or len(rounds) % 2 or (len(rounds) < MAX_ROUNDS and now() - opened < limit):
            rounds.append(_round(a, b) if len(rounds) % 2 == 0 else _turned(_round(b, a)))
    times = np.asarray(rounds, dtype=np.float64) / 1e6
    sides = times[:, [0, 3]], times[:, [1, 2]]
    return Paired(*(sides[::-1] if swap else sides))


def _round(a: Timer, b: Timer) -> Round:
    return a(), b(), b(), a()


def _turned(times: Round) -> Round:
    """A round that began with the second one, in the order of the first one's rounds."""
    b1, a1, a2, b2 = times
    return a1, b1, b2, a2


def precise(ratio: LatencyRatio, within: float) -> bool:
    """Whether an interval is narrow enough for the question."""
    return bool(np.log(ratio.high / ratio.low) / 2 <= np.log1p(within) / 4)


def estimate(openings: Sequence[Paired], reference: str, clock: int, *, seed: int = 0) -> LatencyRatio:
    """The ratio of the candidate's time to the reference's over an even number of openings, with its 95 % interval.

    The log ratio is the median over all pairs of neighbouring runs: an interruption touches one pair, and half of them
    may be touched. The interval is that of a bootstrap over blocks of two openings, one in each order, since pairs of
    one opening are alike; it is expanded for the small number of blocks (Hesterberg 2015, "What teachers should know
    about the bootstrap", section 5). All pairs count, outliers too.
    """
    logs = np.concatenate([each.log_ratios(clock) for each in openings])
    block = np.repeat(np.arange(len(openings)) // 2, [2 * len(each.candidate) for each in openings])
    blocks = len(openings) // 2
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES)
    medians = _weighted_medians(logs, drawn[:, block])
    tail = _expanded_tail(blocks)
    low, high = np.quantile(medians, [tail, 1 - tail])
    middle, low, high = (float(np.exp(x)) for x in (np.median(logs), low, high))
    return LatencyRatio(reference, middle, low, high, logs.size // 2)


def _weighted_medians(values: npt.NDArray[np.float64], weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The median of `values`, `(n,)`, each counted as often as a row of `weights`, `(rows, n)`, says; `(rows,)`."""
    order = np.argsort(values)
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower, upper = (values[order][np.argmax(test, axis=1)] for test in (reached >= half, reached > half))
    return np.asarray((lower + upper) / 2)


def _expanded_tail(blocks: int) -> float:
    """The share of the bootstrap's means beyond either end, so that as many blocks give a 95 % interval.

    Student's t is taken from the normal quantile by its expansion in 1 / degrees of freedom (Abramowitz and Stegun
    1964, 26.7.5).
    """
    z, df = NormalDist().inv_cdf(0.975), blocks - 1
    t = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    return NormalDist().cdf(-math.sqrt(blocks / df) * t)


@contextmanager
def session_timer(
    graph: Path, feeds: Mapping[str, Array], *, provider: str = "cpu", threads: int = 1
) -> Iterator[Timer]:
    """A graph opened in this process; the function runs it once and gives the nanoseconds by both clocks."""
    run = bound_run(open_session(graph, provider=provider, threads=threads), feeds)

    def timer() -> tuple[int, int]:
        start, busy = time.perf_counter_ns(), time.thread_time_ns()
        run()
        busy = time.thread_time_ns() - busy
        return max(time.perf_counter_ns() - start, 1), max(busy, 1)

    yield timer


def _clock(setting: Setting) -> int:
    """Processor time where one thread does all the work and the system counts its time finely, else the wall's."""
    on_cpu = setting.provider.lower() in ("cpu", PROVIDERS["cpu"].lower())
    fine = time.get_clock_info("thread_time").resolution <= _FINE_S
    return CPU if on_cpu and setting.threads == 1 and fine else WALL


def _meet(ratio: LatencyRatio, other: LatencyRatio) -> bool:
    """Whether two intervals meet."""
    return ratio.low <= other.high and other.low <= ratio.high


def _wait_unlike(openings: Sequence[Paired], within: float) -> bool:
    """Whether one side waits, in all but the least disturbed tenth of its runs, for longer than matters.

    What neighbours make a run wait for is chance, and absent from some runs; what a graph waits for is in all of them.
    """
    sides = (np.concatenate([p.candidate for p in openings]), np.concatenate([p.reference for p in openings]))
    least = [np.quantile(side[..., WALL] - side[..., CPU], 0.1) for side in sides]
    return bool(abs(least[0] - least[1]) > within * np.median(sides[1][..., CPU]))


def _shown(ratio: LatencyRatio) -> str:
    return f"{_percent(ratio.ratio)} ({_percent(ratio.low)} to {_percent(ratio.high)})"


def _percent(ratio: float) -> str:
    return f"{ratio:.1%}"
