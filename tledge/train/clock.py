"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PARTS = ("data", "forward", "backward", "captured", "optimizer", "scoring", "files")
"""`captured` are forward and backward passes that ran as CUDA graphs; `files` are checkpoints and logs."""


class Clock:
    """Seconds by part of a training: those of `PARTS`.

    On a GPU, which runs behind Python, the parts of a step are those between events in its own stream. `data` is the
    time in which the loop waited for a batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._events: list[tuple[str, torch.cuda.Event]] = []
        self._on_gpu = device.type == "cuda"
        self._last = time.perf_counter()

    def begin(self) -> None:
        """What follows, up to the next `lap`, is a part."""
        self._last = time.perf_counter()
        if self._on_gpu:
            self._record("")

    def lap(self, part: str) -> None:
        """A part of a step has ended, and the next one begins."""
        now = time.perf_counter()
        if not self._on_gpu or part == "data":
            self.seconds[part] += now - self._last
        if self._on_gpu:
            self._record("" if part == "data" else part)
        self._last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block is one part; it ends with what is to be known on the host."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def settle(self) -> None:
        """Add up the events of a GPU, which then has done all its work."""
        if not self._events:
            return
        torch.cuda.synchronize()
        before: torch.cuda.Event | None = None
        for part, event in self._events:
            if part and before is not None:
                self.seconds[part] += before.elapsed_time(event) / 1000
            before = event
        self._events.clear()

    def _record(self, part: str) -> None:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._events.append((part, event))
