"""What variants answered for the test rows of a run: stored in its folder, found again, and joined by the rows."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.errors import DataError

Array = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]

FILE = "answers.npz"
"""In a run's folder of variants: the hashes of its test rows, their targets, and every variant's records."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one variant gave for some rows: a hash of each input, targets, and the task's records, rows first."""

    hashes: Hashes
    targets: Array
    records: Mapping[str, Array]

    def take(self, rows: Array) -> Answers:
        """Some of the rows, in their order."""
        records = {name: array[rows] for name, array in self.records.items()}
        return Answers(self.hashes[rows], self.targets[rows], records)


def hash_of(value: Any) -> int:
    """The first 64 bits of the SHA-256 of an input: of texts' UTF-8, or of an image file's bytes.

    Args:
        value: A text, a tuple of texts, the path of an image file, its bytes, or a mapping with `bytes` or `path`.
    """
    if isinstance(value, tuple):
        value = "\0".join(value)
    if isinstance(value, Mapping):
        value = value.get("bytes") or Path(value["path"])
    if isinstance(value, Path):
        value = value.read_bytes()
    content = value if isinstance(value, bytes) else str(value).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def hashes_of(values: Sequence[Any]) -> Hashes:
    """The hash of each input, `(rows,) uint64`."""
    return np.fromiter((hash_of(value) for value in values), np.uint64, len(values))


def hexadecimal(hashes: Hashes) -> tuple[str, ...]:
    """Hashes as 16 hexadecimal digits each, sorted, each once."""
    return tuple(f"{value:016x}" for value in sorted(set(hashes.tolist())))


def save(
    folder: Path,
    hashes: Hashes,
    targets: Array,
    records: Mapping[str, Mapping[str, Array]],
    graphs: Mapping[str, str] | None = None,
) -> None:
    """Write what each variant gave for the test rows.

    Args:
        folder: A run's folder of variants.
        hashes: Of each row's input.
        targets: Of each row.
        records: By variant and name, rows first.
        graphs: By variant the SHA-256 of the graph that gave them.
    """
    arrays = {f"output.{variant}.{name}": a for variant, by_name in records.items() for name, a in by_name.items()}
    arrays |= {f"graph.{variant}": np.array(digest) for variant, digest in (graphs or {}).items()}
    np.savez_compressed(folder / FILE, hashes=hashes, targets=targets, **arrays)  # type: ignore[arg-type,unused-ignore]


def read(folder: Path, variant: str, *, graph: str | None = None) -> Answers | None:
    """The stored answers of a variant in a run's folder of variants, `None` where they are not stored.

    Args:
        folder: The folder.
        variant: The variant's name.
        graph: The SHA-256 of the graph that is to have given them.

    Raises:
        DataError: the file is damaged, or the answers are of another graph.
    """
    path = folder / FILE
    prefix = f"output.{variant}."
    try:
        with np.load(path) as stored:
            records = {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}
            gave = str(stored[key]) if (key := f"graph.{variant}") in stored.files else graph
            found = Answers(stored["hashes"], stored["targets"], records) if records else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged: {error}; run the stage quantize again") from error
    if graph is not None and gave != graph:
        raise DataError(f"{path}: another graph than the bundle's gave the answers of {variant}; make the bundle again")
    return found


def join(ours: Answers, theirs: Answers) -> tuple[Answers, Answers]:
    """The rows that both have, in our order; of rows with the same input the first one counts."""
    _, first, other = np.intersect1d(ours.hashes, theirs.hashes, return_indices=True)
    order = np.argsort(first)
    return ours.take(first[order]), theirs.take(other[order])
