"""Texts of any length, cut into windows of tokens that overlap, whose outputs are joined again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tledge.artifacts import read_object
from tledge.errors import BundleError, InputError
from tledge.inputs._one_pass import Array
from tledge.inputs.text import Ids, TextInput

FILE = "windows.json"
"""What a checkpoint or bundle says of its windows."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One value as windows of tokens.

    Each window is `before` tokens that all windows begin with, some of the text's own tokens, and what all end with.
    `ids` and `type_ids` hold the tokens of each window, `first` the number of the first of the text's tokens in it and
    `sizes` how many of them it has.

    Of the text's tokens, `offsets`, `(tokens, 2) int64`, are where they stand in it, in code points, the end behind the
    last one; `words`, `(tokens,) int64`, number the words that they are parts of; and `judged`, `(tokens,) int64`, is
    the window in which the token's word has most context, the first of equal ones.
    """

    ids: tuple[npt.NDArray[np.int32], ...]
    type_ids: tuple[npt.NDArray[np.int32], ...]
    first: tuple[int, ...]
    sizes: tuple[int, ...]
    before: int
    offsets: Ids
    words: Ids
    judged: Ids

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.ids)

    def inside(self, window: int) -> tuple[slice, slice]:
        """Where the text's tokens stand in a window, and which of them they are."""
        first, size = self.first[window], self.sizes[window]
        return slice(self.before, self.before + size), slice(first, first + size)

    def joined(self, windows: Sequence[Array]) -> Array:
        """One row for each of the text's tokens, `(tokens, ...)`, each from the window that judges it.

        Args:
            windows: one array a window, `(tokens of the window, ...)`.
        """
        result = np.zeros((len(self.words), *windows[0].shape[1:]), windows[0].dtype)
        for number, array in enumerate(windows):
            places, tokens = self.inside(number)
            mine = self.judged[tokens] == number
            result[tokens][mine] = array[places][mine]
        return result


class WindowedInput(TextInput):
    """The tokenizer of a checkpoint or bundle for texts of any length; else as `TextInput`.

    Neighbouring windows share about `stride` tokens. A window never cuts a word, unless one alone is longer than it.
    `encode` gives the first window of each text.
    """

    files = (*TextInput.files, FILE)
    facts: Mapping[str, Any]
    stride: int

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As for `TextInput`, and the settings in `windows.json`.

        Raises:
            BundleError: a file is missing or damaged.
        """
        found = super().load(folder)
        found.facts = _facts(folder / FILE)
        stride = found.facts.get("stride")
        if not isinstance(stride, int) or isinstance(stride, bool) or not 0 <= stride < found.max_length:
            raise BundleError(f"{folder / FILE}: stride must be 0 to {found.max_length - 1} tokens, got {stride!r:.60}")
        found.stride = stride
        found.identity = hashlib.sha256(
            f"{found.identity} {json.dumps(found.facts, sort_keys=True)}".encode()
        ).hexdigest()
        return found

    def encode(self, values: Sequence[Any]) -> dict[str, Ids]:
        """The first window of each text, `(batch, sequence) int64` each, for what looks at a graph alone.

        Raises:
            InputError: a value is not a text, or gives no token at all.
        """
        cuts = [self.cut(value) for value in values]
        return self.padded_windows([(cut, 0) for cut in cuts])

    def padded_windows(self, windows: Sequence[tuple[Cut, int]]) -> dict[str, Ids]:
        """Some windows as one batch, `(batch, sequence) int64` each."""
        ids, types = [cut.ids[i] for cut, i in windows], [cut.type_ids[i] for cut, i in windows]
        rows: dict[str, list[Any]] = {
            "input_ids": ids,
            "attention_mask": [np.ones(len(row)) for row in ids],
            "token_type_ids": types,
        }
        length = max(map(len, ids), default=0)
        return {name: self._padded(rows[name], length, self.padding[name]) for name in self.input_names}

    def passes(self, values: Sequence[Any]) -> tuple[list[dict[str, Array]], Any]:
        """The tensors of each pass that texts take, and what `whole` needs to know of them.

        No more windows run at once than there are values, so that one text is answered window by window.

        Raises:
            InputError: a value is not a text, or gives no token at all.
        """
        cuts = [self.cut(value) for value in values]
        windows = [(cut, i) for cut in cuts for i in range(len(cut))]
        at_once = [windows[start : start + len(values)] for start in range(0, len(windows), max(1, len(values)))]
        lengths = [[len(cut.ids[i]) for cut, i in some] for some in at_once]
        return [self.padded_windows(some) for some in at_once], (values, cuts, lengths)

    def whole(self, outputs: Sequence[Mapping[str, Array]], known: Any) -> dict[str, Array]:
        """What `joined` makes of the outputs of all passes."""
        values, cuts, lengths = known
        rows = [self.unpadded(each["logits"], some) for each, some in zip(outputs, lengths, strict=True)]
        return self.joined(values, cuts, [row for some in rows for row in some])

    def unpadded(self, rows: Array, lengths: Sequence[int]) -> list[Array]:
        """The rows of a batch, `(batch, sequence, ...)`, without what pads them."""
        side = (lambda n: slice(rows.shape[1] - n, None)) if self.pads_left else (lambda n: slice(0, n))
        return [row[side(length)] for row, length in zip(rows, lengths, strict=True)]

    def joined(self, values: Sequence[Any], cuts: Sequence[Cut], logits: Sequence[Array]) -> dict[str, Array]:
        """The outputs of whole texts from those of their windows.

        Args:
            values: the texts.
            cuts: their windows.
            logits: `(tokens of the window, outputs)` for each window of each text in turn.

        Returns:
            `logits`, `(values, tokens, outputs)`, `offsets`, `(values, tokens, 2) int64`, and `words`, `(values,
            tokens) int64`, padded with zeros, and with -1 where there is no token; and `values`, the texts.
        """
        whole, at = [], 0
        for cut in cuts:
            whole.append(cut.joined(logits[at : at + len(cut)]))
            at += len(cut)
        return {
            "logits": stacked(whole, 0),
            "offsets": stacked([cut.offsets for cut in cuts], -1),
            "words": stacked([cut.words for cut in cuts], -1),
            "values": _objects(values),
        }

    def n_cut(self, value: Any) -> int:
        """0: what one window does not hold is in another.

        Raises:
            InputError: the value is not a text.
        """
        self.check(value)
        return 0

    def tokens(self, values: Sequence[Any]) -> tuple[dict[str, npt.NDArray[np.int32]], Ids]:
        """The tokens of the windows of many texts end to end, and how many each window has."""
        return self.tokens_of(self.cuts(values))

    def tokens_of(self, cuts: Sequence[Cut]) -> tuple[dict[str, npt.NDArray[np.int32]], Ids]:
        """The tokens of windows end to end, without padding and mask, and how many each window has."""
        kinds = {"input_ids": "ids", "token_type_ids": "type_ids"}
        flat = {
            name: np.concatenate([row for cut in cuts for row in getattr(cut, kinds[name])])
            for name in self.input_names
            if name in kinds
        }
        return flat, np.asarray([len(row) for cut in cuts for row in cut.ids], np.int64)

    def cuts(self, values: Sequence[Any]) -> list[Cut]:
        """The windows of many texts, tokenized on all cores.

        Raises:
            InputError: a value is not a text, or gives no token at all.
        """
        return [
            self._cut(value, encoding)
            for value, encoding in zip(values, self._encode_all(values, self._uncut), strict=True)
        ]

    def cut(self, value: Any) -> Cut:
        """The windows of one text.

        Raises:
            InputError: the value is not a text, or gives no token at all.
        """
        return self._cut(value, self._encode_one(value, self._uncut))

    def _cut(self, value: Any, encoding: Any) -> Cut:
        own = int(self.is_pair)  # which of the texts is cut
        of = np.asarray([-1 if number is None else number for number in encoding.sequence_ids])
        mine = np.flatnonzero(of == own)
        middle = len(of) // 2  # between the special tokens, where nothing else is there
        begin, end = (int(mine[0]), int(mine[-1]) + 1) if mine.size else (middle, middle)
        ids, types = encoding.ids, encoding.type_ids
        room = self.max_length - begin - (len(ids) - end)
        if room < 1:
            raise InputError(
                f"the first text takes {begin - 2} tokens of at most {self.max_length}, which leaves none for the "
                f"second: {value!r:.60}"
            )
        words = np.asarray([-1 if word is None else word for word in encoding.word_ids[begin:end]], np.int64)
        parts = list(_windows(words, room, self.stride))

        def windows(numbers: Sequence[int]) -> tuple[npt.NDArray[np.int32], ...]:
            array = np.asarray(numbers, np.int32)
            return tuple(np.concatenate([array[:begin], array[begin + a : begin + b], array[end:]]) for a, b in parts)

        return Cut(
            windows(ids),
            windows(types),
            tuple(a for a, _ in parts),
            tuple(b - a for a, b in parts),
            begin,
            np.asarray(encoding.offsets[begin:end], np.int64).reshape(-1, 2),
            words,
            _judges(words, parts),
        )


def stacked(arrays: Sequence[Array], padding: float) -> Array:
    """Arrays that differ in their first axis as one, padded behind: `(arrays, longest, ...)`."""
    longest = max((len(each) for each in arrays), default=0)
    shape = arrays[0].shape[1:] if arrays else ()
    result = np.full((len(arrays), longest, *shape), padding, arrays[0].dtype if arrays else np.float32)
    for row, each in zip(result, arrays, strict=True):
        row[: len(each)] = each
    return result


def _windows(words: Ids, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """The first token of each window, and the one behind its last."""
    bounds = np.append(np.flatnonzero(np.diff(words, prepend=-2)), len(words))  # where words begin, and the end

    def last(place: int) -> int:
        """The last of the bounds up to a place."""
        return int(bounds[np.searchsorted(bounds, place, side="right") - 1])

    start = 0
    while len(words) - start > room:
        end = last(start + room)
        end = end if end > start else start + room
        yield start, end
        again = last(max(0, end - stride))
        following = int(bounds[np.searchsorted(bounds, start, side="right")])
        start = again if again > start else min(following, end)
    yield start, len(words)


def _judges(words: Ids, parts: Sequence[tuple[int, int]]) -> Ids:
    """For each token the window in which its word has most context."""
    judged = np.zeros(len(words), np.int64)
    if len(parts) == 1:
        return judged
    new = np.concatenate([[True], words[1:] != words[:-1]])
    number = np.cumsum(new) - 1
    first = np.flatnonzero(new)[number]
    last = np.concatenate([np.flatnonzero(new)[1:], [len(words)]])[number] - 1
    best = np.full(len(words), -len(words) - 1)
    for window, (a, b) in enumerate(parts):
        inside = slice(a, b)
        context = np.minimum(first[inside] - a, b - 1 - last[inside])
        better = context > best[inside]
        best[inside][better], judged[inside][better] = context[better], window
    return judged


def _facts(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path)[0]
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: expected how long texts are cut into windows") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error


def _objects(values: Sequence[Any]) -> Array:
    result = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        result[i] = value
    return result
