"""Long texts to token ids in constant memory: window by window, with the same tokens as if read at once.

A window is tokenized with some text before and after it, so that its own tokens do not notice its edges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

WINDOW = 200_000
"""Characters whose tokens are taken together."""
MARGIN = 2_000
"""Characters before and after them that are tokenized too; no tokenizer looks further than a word or a run of space."""

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Some tokens of a text: `ids`, and the UTF-8 bytes of the text that each stands for, both `(tokens,) int32`.

    The bytes add up to those of the text: what a tokenizer drops, such as white space, counts with the token after it,
    and of several tokens of one character the first has its bytes.
    """

    ids: Ids
    n_bytes: Ids


def plain(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither cuts nor pads texts, puts no token around them, and tells where each token stood."""
    facts = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(facts | {"truncation": None, "padding": None, "post_processor": None}))


def tokenize(pieces: Iterable[str], tokenizer: Tokenizer, end: int) -> Iterator[Tokens]:
    """The tokens of one text, and the token that ends it.

    Args:
        pieces: the text, in pieces of any length.
        tokenizer: what `plain` gives.
        end: the id of the last token, which stands for bytes that no other one does.
    """
    before = rest = ""
    for chunk, is_last in _with_last(_chunks(pieces)):
        rest += chunk
        found, used, n_bytes = _window(before, rest, tokenizer, is_last=is_last)
        if is_last:
            left = len(rest.encode("utf-8")) - n_bytes
            found = Tokens(np.append(found.ids, np.int32(end)), np.append(found.n_bytes, np.int32(left)))
        yield found
        before, rest = (before + rest[:used])[-MARGIN:], rest[used:]


def _chunks(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in pieces of `WINDOW` characters; the last may have fewer, and none."""
    waiting: list[str] = []
    size = 0
    for piece in pieces:
        for start in range(0, len(piece), WINDOW):
            part = piece[start : start + WINDOW]
            waiting.append(part)
            size += len(part)
            if size >= WINDOW:
                yield "".join(waiting)
                waiting, size = [], 0
    yield "".join(waiting)


def _with_last(chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    held: str | None = None
    for chunk in chunks:
        if held is not None:
            yield held, False
        held = chunk
    if held is not None:
        yield held, True


def _window(before: str, rest: str, tokenizer: Tokenizer, *, is_last: bool) -> tuple[Tokens, int, int]:
    """The tokens of `rest` that its end does not touch, how many characters they stand for, and how many bytes."""
    ids, starts, ends = _encoded(before + rest, tokenizer)
    base = len(before)
    first = _clean(starts, ends, base) if before else 0
    if first is None:  # seen together, a token stands on the border: what was given stays, and the rest stands alone
        ids, starts, ends = _encoded(rest, tokenizer)
        before, base, first = "", 0, 0
    stop = len(ids) if is_last else _last_clean(starts, ends, first, len(before + rest) - MARGIN)
    widths = _byte_ends(rest)
    ends = np.concatenate([[base], ends[first:stop]]) - base
    n_bytes = np.diff(widths[ends])
    return Tokens(ids[first:stop], n_bytes.astype(np.int32)), int(ends[-1]), int(widths[ends[-1]])


def _encoded(text: str, tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids, where each starts, and where the text of it and of all before it ends, in characters."""
    encoding: Any = tokenizer.encode(text, add_special_tokens=False)
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    return np.asarray(encoding.ids, dtype=np.int32), offsets[:, 0], np.maximum.accumulate(offsets[:, 1])


def _clean(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], base: int) -> int | None:
    """The first token behind `base` where no token reaches over it; `None` where one does."""
    first = int(np.searchsorted(ends, base, side="right"))
    return first if first == len(starts) or starts[first] >= base else None


def _last_clean(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], first: int, limit: int) -> int:
    """The number of tokens up to the last border between two that is not behind `limit`."""
    for stop in range(int(np.searchsorted(ends, limit, side="right")), first, -1):
        if stop == len(starts) or starts[stop] >= ends[stop - 1]:
            return stop
    return first


def _byte_ends(text: str) -> npt.NDArray[np.int64]:
    """The UTF-8 bytes of the first 0, 1, 2 ... characters of a text."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(widths)])
