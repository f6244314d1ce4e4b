"""What a training that was killed goes on from: one file, written aside while training goes on."""

from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tledge.artifacts import write_json

EVERY_S = 60.0
"""Between two checkpoints."""
SHARE = 0.05
"""A better epoch is kept at once where writing takes no more than this share of the time."""
FILE = "resume.pt"
FORMAT = 1
"""Goes up when a checkpoint holds other things."""


class Checkpoints:
    """Writes and reads the checkpoint of one training; to be closed, which waits for the last one to be on disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[float] | None = None
        self._last, self._took = time.monotonic(), 0.0

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._finish()
        except Exception:
            if error is None:  # else that is what went wrong first
                raise
        finally:
            self._pool.shutdown()

    def due(self, *, better: bool = False) -> bool:
        """Whether it is time for one: each minute, and after a better epoch where that costs little."""
        passed = time.monotonic() - self._last
        return passed >= EVERY_S or (better and passed * SHARE >= self._took)

    def write(self, state: dict[str, Any], *, step: int, of: int) -> None:
        """Begin to write what training goes on from; its tensors are copied first, the file is written in a thread.

        Args:
            state: nested dicts and lists of tensors, numbers and strings.
            step: where the training is, for people; beside it in `resume.json`.
            of: how many steps it has.

        Raises:
            OSError: the one before could not be written.
        """
        self._finish()
        self._writing = self._pool.submit(self._write, on_host(state), {"step": step, "of": of})
        self._last = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """What was written last; `None` where there is none, or one that cannot be read, or of another version."""
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
            self.path.unlink(missing_ok=True)
            return None
        return dict(found["state"]) if found.get("format") == FORMAT else None

    def _write(self, state: dict[str, Any], reached: dict[str, int]) -> float:
        started = time.monotonic()
        aside = self.path.with_name(f"{FILE}.partial")
        try:
            torch.save({"format": FORMAT, "state": state}, aside)
        except RuntimeError as error:  # which does not tell what the system said
            aside.unlink(missing_ok=True)
            if shutil.disk_usage(aside.parent).free < n_bytes(state):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
            raise
        os.replace(aside, self.path)
        write_json(self.path.with_suffix(".json"), reached)
        return time.monotonic() - started

    def _finish(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._took = writing.result()


def remove(folder: Path) -> None:
    """Remove the checkpoint of a training that is done, and what a kill has left of it half-written."""
    for path in folder.glob(f"{Path(FILE).stem}.*"):
        path.unlink()


def on_host(value: Any) -> Any:
    """Copies of all tensors in nested dicts, lists and tuples, on the host."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_host(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_host(each) for each in value)
    return value


def n_bytes(value: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, (dict, list, tuple)):
        return sum(map(n_bytes, value.values() if isinstance(value, dict) else value))
    return 0


def changing(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module that training changes, by name: parameters that train, and buffers; not copied."""
    parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
    return {name: each.detach() for name, each in {**parameters, **dict(module.named_buffers())}.items()}


def put_back(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a module the values that `changing` had.

    Raises:
        ValueError: they are of another module.
    """
    now = changing(module)
    if {name: each.shape for name, each in now.items()} != {name: each.shape for name, each in tensors.items()}:
        raise ValueError("the tensors are those of another module")
    with torch.no_grad():
        for name, each in now.items():
            each.copy_(tensors[name])


def random_state() -> dict[str, Any]:
    """The state of all random numbers of this process."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": list(random.getstate()),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on with the random numbers that `random_state` has seen."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
