"""What `tledge predict` does with vectors: show them, write them as an array, and find the nearest lines of a file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tledge.cli.table_values import lines_of
from tledge.cli.table_values import values as in_table
from tledge.cli.values import Value
from tledge.errors import InputError, StorageError
from tledge.tables import is_table

if TYPE_CHECKING:
    from tledge.runtime import Predictor

SHOWN = 6
"""Numbers of a vector that are shown on a screen."""
TOP_K = 5


@dataclass
class Vectors:
    """The answers of a model of vectors, on their way to the screen, to an array or to the nearest lines of a file.

    `whole` prints vectors in full, as JSON, which is also what another program gets that reads the output.
    """

    predictor: Predictor
    whole: bool = False
    npy: Path | None = None
    nearest: Path | None = None
    columns: Sequence[str] = ()
    top_k: int | None = None
    prompt: str | None = None
    _found: list[list[float]] = field(default_factory=list)
    _lines: Lines | None = None

    def __post_init__(self) -> None:
        if self.npy is not None and self.npy.suffix != ".npy":
            raise InputError(f"--npy {self.npy}: expected a file that ends in .npy")
        if self.top_k is not None and (self.nearest is None or self.top_k < 1):
            raise InputError(f"--top-k {self.top_k}: of vectors, how many lines of --nearest FILE, 1 or more")
        prompts = self.predictor.prompts or {}
        if self.prompt is not None and self.prompt not in prompts:
            raise InputError(f"--prompt {self.prompt}: the model has {', '.join(prompts) or 'no prompts'}")
        if self.nearest is not None:
            from tledge.tasks._related import DOCUMENT, QUERY

            both = {QUERY, DOCUMENT} <= set(prompts)
            self.prompt = self.prompt or (QUERY if both else None)
            self._lines = Lines.read(self.nearest, self.columns, self.predictor, prompt=DOCUMENT if both else None)

    @property
    def options(self) -> dict[str, Any]:
        """Those of `Predictor.predict`."""
        return {} if self.prompt is None else {"prompt": self.prompt}

    def take(self, each: Value, answer: dict[str, Any]) -> None:
        """Print an answer, or keep it for the array."""
        vector = answer["embedding"]
        if self.npy is not None:
            self._found.append(vector)
        if self._lines is not None:
            near = self._lines.nearest(vector, self.top_k or TOP_K)
            shown = {**each.shown, "nearest": near}
            typer.echo(json.dumps(shown, ensure_ascii=False) if self._as_json else _near(each, near))
        elif self.npy is None:
            shown = {**each.shown, **answer}
            typer.echo(json.dumps(shown, ensure_ascii=False) if self._as_json else _short(each, vector))

    def end(self) -> None:
        """Write the array.

        Raises:
            StorageError: it cannot be written.
        """
        if self.npy is None:
            return
        import numpy as np

        vectors = np.asarray(self._found, dtype=np.float32)
        try:
            np.save(self.npy, vectors)
        except OSError as error:
            raise StorageError(f"--npy {self.npy} cannot be written: {error.strerror}") from error
        typer.echo(f"{self.npy}: {len(vectors)} vectors of {vectors.shape[-1]} numbers, float32", err=True)

    @property
    def _as_json(self) -> bool:
        return self.whole or not sys.stdout.isatty()


@dataclass(frozen=True)
class Lines:
    """The texts of a file, where they stand, and their vectors of length 1, `(texts, size) float32`."""

    places: Sequence[str]
    texts: Sequence[str]
    vectors: Any

    @classmethod
    def read(cls, file: Path, columns: Sequence[str], predictor: Predictor, *, prompt: str | None) -> Lines:
        """The lines of a text file, or the cells of a table's column; empty lines are left out.

        Raises:
            InputError: the file cannot be read, or has no text.
        """
        import numpy as np

        found = [(place, text) for place, text in _texts(file, columns) if text.strip()]
        if not found:
            raise InputError(f"--nearest {file} has no text; expected a text a line, or a table with a column of texts")
        answers = predictor.predict_iter([text for _, text in found], prompt=prompt)
        vectors = np.asarray([answer["embedding"] for answer in answers], dtype=np.float32)
        cut = sum(predictor.n_cut(text) > 0 for _, text in found)
        if cut:
            typer.echo(f"note: --nearest {file}: {cut} of {len(found)} texts are longer than the model reads", err=True)
        return cls([place for place, _ in found], [text for _, text in found], _normalized(vectors))

    def nearest(self, vector: Sequence[float], count: int) -> list[dict[str, Any]]:
        """The texts whose cosine with a vector is the largest, those first; of equal ones the first in the file."""
        import numpy as np

        cosines = self.vectors @ _normalized(np.asarray([vector], dtype=np.float32))[0]
        best = np.argsort(-cosines, kind="stable")[:count]
        return [{"text": self.texts[i], "cosine": round(float(cosines[i]), 6), "place": self.places[i]} for i in best]


def _texts(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    if not file.exists():
        raise InputError(f"--nearest {file}: there is no such file")
    try:
        if not is_table(file):
            yield from lines_of(file)
            return
        _, cells = in_table(file, ("text",), columns, {})
        yield from ((place, found[0]) for place, found in cells)
    except OSError as error:
        raise InputError(f"--nearest {file} cannot be read: {error.strerror}") from error


def _normalized(vectors: Any) -> Any:
    from tledge.tasks._related import cosines_of

    return cosines_of(vectors)


def _short(each: Value, vector: Sequence[float]) -> str:
    first = " ".join(f"{number:.4f}" for number in vector[:SHOWN])
    length = math.sqrt(math.fsum(number * number for number in vector))
    more = " ..." if len(vector) > SHOWN else ""
    return (
        f"{each.place}: {each.value!r:.60}\n  {len(vector)} numbers, length {length:.4g}: {first}{more} "
        "(all of them: --json, or --npy FILE)"
    )


def _near(each: Value, near: Sequence[dict[str, Any]]) -> str:
    lines = [f"{each.place}: {each.value!r:.60}"]
    lines += [f"  {found['cosine']:.3f}  {found['text']}  ({found['place']})" for found in near]
    return "\n".join(lines)
