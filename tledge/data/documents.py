"""The documents of one source as one stream of tokens on disk: rows of a table, or the one of a plain text file."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tokenizers import Tokenizer

from tledge.data.blocks import Ids
from tledge.data.inputs import text as text_input
from tledge.data.sources import Problem, Row, Source
from tledge.data.table import EXAMPLES, shown
from tledge.data.tokens import tokenize
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress
from tledge.recipe.schema import Data

COLUMN = "text"


@dataclass(slots=True)
class Stream:
    """The tokens of a source's documents, one after the other, each with the token that ends it.

    `ids`, and `n_bytes` of the text that each token stands for, are `(tokens,) int32`, mapped from disk; `starts` are
    where documents begin. `digests` has the place of each document by 16 bytes of its words. `doubles` counts
    documents that were there before, `overlap` those that another source holds out: both are left out. `n_read` counts
    them and broken rows too, `skipped` only these, by kind.
    """

    source: str
    path: Path | None
    ids: Ids = field(default_factory=lambda: np.empty(0, np.int32))
    n_bytes: Ids = field(default_factory=lambda: np.empty(0, np.int32))
    starts: array[int] = field(default_factory=lambda: array("q"))
    digests: dict[bytes, str] = field(default_factory=dict)
    n_read: int = 0
    doubles: int = 0
    overlap: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def read(
    source: Source,
    name: str,
    settings: Data,
    tokenizer: Tokenizer,
    end: int,
    *,
    held: Mapping[bytes, str],
    scratch: Path,
    progress: Progress,
) -> Stream:
    """Read a source to its end, document by document.

    Args:
        source: the stream of raw rows.
        name: of the split that it was given for.
        settings: the recipe's `data`.
        tokenizer: what `tokens.plain` gives.
        end: the id of the token that ends a text.
        held: the documents that other sources hold out, places by digest.
        scratch: a folder that takes the tokens.
        progress: shown in bytes or rows, as the source counts.

    Raises:
        DataError: the column is missing, there is no text, a row is broken and `on_error` is `fail`, or a document is
            held out elsewhere and `on_overlap` is `fail`.
    """
    stream = Stream(source.name, source.path)
    column = _column(source, settings)
    rows = shown(source, source.read({column}), progress, costly=False)
    paths = scratch / f"{name}.ids", scratch / f"{name}.bytes"
    n_tokens = 0
    with paths[0].open("wb") as ids, paths[1].open("wb") as n_bytes:
        for place, pieces in _documents(source, rows, column, stream, settings):
            digest = hashlib.blake2b(digest_size=16)
            start = n_tokens
            for tokens in tokenize(_hashed(pieces, digest), tokenizer, end):
                ids.write(tokens.ids.tobytes())
                n_bytes.write(tokens.n_bytes.tobytes())
                n_tokens += len(tokens.ids)
            if _is_new(digest.digest(), place, name, stream, held, settings):
                stream.starts.append(start)
            else:
                _take_back((ids, n_bytes), start)
                n_tokens = start
    if not n_tokens:
        raise DataError(_nothing(stream, name))
    stream.ids, stream.n_bytes = (np.memmap(path, np.int32, "r") for path in paths)
    return stream


def _column(source: Source, settings: Data) -> str:
    column = settings.columns.get(COLUMN, COLUMN)
    if source.columns and column not in source.columns:
        raise DataError(
            f"{source.name} has no column {column!r}; its columns are {', '.join(map(repr, source.columns[:10]))}"
            f"{did_you_mean(column, source.columns)}; set data.columns.{COLUMN}"
        )
    return column


def _documents(
    source: Source, rows: Iterator[Row], column: str, stream: Stream, settings: Data
) -> Iterator[tuple[str, Iterator[str]]]:
    """Each document's place and its text in pieces, which must be read before the next document."""
    if source.is_one_text:
        stream.n_read = 1
        yield source.name, _lines(rows, column, stream, settings)
        return
    for row in rows:
        stream.n_read += 1
        found = row.problem or _cell(row, column)
        if isinstance(found, Problem):
            _leave_out(row, found, stream, settings)
        else:
            yield row.name, iter([found])


def _lines(rows: Iterator[Row], column: str, stream: Stream, settings: Data) -> Iterator[str]:
    for row in rows:
        if row.problem is None:
            yield row.cells[column]
        else:
            _leave_out(row, row.problem, stream, settings)


def _cell(row: Row, column: str) -> str | Problem:
    if column not in row.cells:
        return Problem("missing column", f"there is no {column!r}")
    found = text_input.read([row.cells[column]], [column], None)
    return found if isinstance(found, Problem) else str(found.stored[0])


def _leave_out(row: Row, problem: Problem, stream: Stream, settings: Data) -> None:
    if settings.on_error == "fail":
        raise DataError(f"{row.name}: {problem.detail}; mend the row, or set data.on_error: skip")
    stream.skipped[problem.kind] += 1
    if len(stream.examples) < EXAMPLES:
        stream.examples.append(f"{row.name}: {problem.detail}")


def _hashed(pieces: Iterator[str], digest: Any) -> Iterator[str]:
    """The same pieces; the digest is that of their words, so that neither white space nor composition matters."""
    for piece in pieces:
        words = unicodedata.normalize("NFC", piece).split()
        if words:
            digest.update((" ".join(words) + " ").encode())
        yield piece


def _is_new(digest: bytes, place: str, name: str, stream: Stream, held: Mapping[bytes, str], settings: Data) -> bool:
    if digest in held:
        if settings.on_overlap == "fail":
            raise DataError(
                f"{place} has the text of {held[digest]}; take it out of one file, or set data.on_overlap: drop to "
                f"leave it out of the {name} texts"
            )
        stream.overlap += 1
        return False
    if digest in stream.digests:
        stream.doubles += 1
        return False
    stream.digests[digest] = place
    return True


def _take_back(files: tuple[BinaryIO, ...], start: int) -> None:
    for file in files:
        file.seek(4 * start)
        file.truncate()


def _nothing(stream: Stream, name: str) -> str:
    if stream.overlap:
        return f"no text of {stream.source} is left for {name}: each one is held out as validation or test text"
    n = stream.skipped.total()
    why = f": {n} {'row is' if n == 1 else 'rows are'} broken, such as {stream.examples[0]}" if n else ""
    return f"{stream.source} has no usable text{why}"
