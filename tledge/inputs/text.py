"""Texts to token ids, with the `tokenizers` library and the two files that every checkpoint and bundle holds.

The tensors equal those of transformers' `AutoTokenizer` called with `padding=True, truncation=True` on the
same folder, without needing transformers.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tledge.artifacts import read_object
from tledge.errors import BundleError, InputError, TledgeError
from tledge.inputs._one_pass import OnePass
from tledge.inputs._text_pieces import TextPieces

Ids = npt.NDArray[np.int64]

SENTENCES = (
    "The ferry leaves the harbour at seven in the morning.",
    "Is this seat taken? No, please sit down!",
    "Le garçon a mangé une crème brûlée à Orléans, et l'été fut très doux.",
    "Größe 42, Straße 7: über 3.500 Stück für 19,99 €.",
    "图书馆在火车站的右边，每天早上九点开门。",
    "Good luck 🍀 and see you soon 👋🏽",
    "x",
    "",
    "line one\nline two\tafter a tab",
    "A long walk follows the river past mills, orchards and two stone bridges before it reaches the lake. " * 12,
)
"""What golden vectors are made of; the same for every bundle and nobody's data."""

_KNOWN_NAMES = ("input_ids", "attention_mask", "token_type_ids")
_KINDS: Mapping[str, Any] = {
    "model_max_length": (int, float),
    "model_input_names": list,
    "pad_token": (str, dict),
    "eos_token": (str, dict),
    "pad_token_type_id": int,
    "padding_side": str,
    "truncation_side": str,
    "split_special_tokens": bool,
}
_NO_LIMIT = 10**9  # transformers writes 10^30 for "no limit"


class TextInput(OnePass):
    """The tokenizer of a checkpoint or bundle.

    ::

        inputs = TextInput.load(Path("bundle"))
        inputs.encode(["a text", "another, longer text"])   # {"input_ids": (2, 7), "attention_mask": (2, 7)}

    `max_length` is the number of tokens, special ones included, at which texts are cut; `input_names` are the
    tensors that `encode` gives, in order; `pad_id` is the token that pads; `identity` is a hash of the files that
    decide what it gives. Nothing changes after loading: one object serves many threads.
    """

    batches = True
    files: tuple[str, ...] = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    decodes = False
    expected = "a text"
    is_pair = False

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int,
        input_names: tuple[str, ...],
        pad_id: int,
        pad_type_id: int = 0,
        pad_left: bool = False,
        identity: str = "",
        unknown_id: int | None = None,
    ) -> None:
        self.max_length = max_length
        self.identity = identity
        self.input_names = input_names
        self._tokenizer = tokenizer
        self.pad_id = pad_id
        self.padding = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": pad_type_id}
        self.pads_left = pad_left
        self._unknown_id = unknown_id

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tokenizer described by `tokenizer.json` and `tokenizer_config.json` in a folder.

        Without a padding token (GPT-2) the end-of-text token pads; the attention mask hides it.

        Raises:
            BundleError: a file is missing or damaged, or does not say where texts are cut or what pads them.
        """
        config = _read_object(folder / "tokenizer_config.json")
        graph = _read_object(folder / "tokenizer.json")
        _require_kinds(config, folder / "tokenizer_config.json")
        _require_whole_charsmaps(graph, folder / "tokenizer.json")
        with _told(f"{folder / 'tokenizer.json'} is not a tokenizer", silent=True):
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        max_length = _max_length(config, graph, folder)
        with _told(f"{folder / 'tokenizer_config.json'} or tokenizer.json has a setting of a wrong kind", silent=True):
            n_special = tokenizer.num_special_tokens_to_add(cls.is_pair)
            if max_length <= n_special:
                raise BundleError(
                    f"{folder / 'tokenizer_config.json'}: model_max_length is {max_length}, but {n_special} "
                    f"special tokens surround each text; set it to {n_special + 1} or more"
                )
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_length, direction=config.get("truncation_side") or "right")
            tokenizer.encode_special_tokens = bool(config.get("split_special_tokens", False))
            for value in (SENTENCES[1], ""):  # a file that loads can still make the library panic
                tokenizer.decode(tokenizer.encode(value).ids)
            return cls(
                tokenizer,
                max_length=max_length,
                input_names=_input_names(config, folder),
                pad_id=_pad_id(tokenizer, config, graph, folder),
                pad_type_id=int(np.int64(config.get("pad_token_type_id") or 0)),
                pad_left=config.get("padding_side", "right") == "left",
                identity=hashlib.sha256(json.dumps([config, graph], sort_keys=True).encode()).hexdigest(),
                unknown_id=_unknown_id(tokenizer, graph),
            )

    def is_one(self, values: object) -> bool:
        """Whether this is one text rather than several; what is neither goes on as one, and is refused by name."""
        return isinstance(values, str | bytes | bytearray | Mapping) or not isinstance(values, Iterable)

    def of_cells(self, cells: Sequence[str], folder: Path) -> str:  # noqa: ARG002
        """The value in the cells of a row."""
        return cells[0]

    def check(self, value: object) -> None:
        """Nothing for a text that can be encoded.

        Raises:
            InputError: `value` is not a `str`, or it holds half a surrogate pair.
        """
        if not isinstance(value, str):
            raise InputError(f"expected a text (str), got {type(value).__name__}: {_shortened(value)}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text holds half a surrogate pair at character {error.start}, which is no Unicode text; "
                "decode it with errors='replace' first"
            ) from error

    def encode(self, values: Sequence[Any]) -> dict[str, Ids]:
        """One tensor for each of `input_names`, `(batch, sequence), int64`.

        `sequence` is the longest text of the batch in tokens, at most `max_length`; shorter ones are padded
        on the tokenizer's padding side. An empty batch gives `(0, 0)`.

        Raises:
            InputError: a value is not a text, or gives no token at all.
        """
        # One text at a time: the library's own batches start threads, which a device may not have to spare.
        encodings = [self._encode_one(value, self._tokenizer) for value in values]
        length = max((len(encoding.ids) for encoding in encodings), default=0)
        rows = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        return {name: self._padded(rows[name], length, self.padding[name]) for name in self.input_names}

    def tokens(self, values: Sequence[Any]) -> tuple[dict[str, npt.NDArray[np.int32]], Ids]:
        """The tokens of many texts end to end, and how many each has: what `encode` gives without padding and mask.

        It works on all cores.

        Raises:
            InputError: a value is not a text, or gives no token at all.
        """
        encodings = self._encode_all(values, self._tokenizer)
        kinds = {"input_ids": "ids", "token_type_ids": "type_ids"}
        flat = {
            name: np.fromiter(chain.from_iterable(getattr(each, kinds[name]) for each in encodings), np.int32)
            for name in self.input_names
            if name in kinds
        }
        return flat, np.fromiter(map(len, encodings), np.int64)

    def encode_whole(self, value: str) -> list[int]:
        """The tokens of a text however long it is, with the tokenizer's special tokens; empty if it has none.

        Raises:
            InputError: the value is not a text.
        """
        self.check(value)
        with _told(_NOT_READ):
            return list(self._uncut.encode(value).ids)

    def n_cut(self, value: Any) -> int:
        """How many tokens of a value are left out, since it has more than `max_length`; 0 where none is.

        Raises:
            InputError: the value is not a text.
        """
        self.check(value)
        with _told(_NOT_READ):
            encoding = self._uncut.encode(*_parts(value))  # type: ignore[arg-type]
        return max(0, len(encoding.ids) - self.max_length)

    def unknown_share(self, values: Sequence[Any]) -> float:
        """The share of the texts' tokens that the vocabulary does not know, 0 to 1; special tokens are not counted.

        It is 0 for vocabularies that know every byte.

        Raises:
            InputError: a value is not a text.
        """
        n_unknown = n_tokens = 0
        for encoding in self._encode_batch(values, self._tokenizer):
            n_unknown += encoding.ids.count(self._unknown_id) if self._unknown_id is not None else 0
            n_tokens += encoding.special_tokens_mask.count(0)
        return n_unknown / n_tokens if n_tokens else 0.0

    def unknown_characters(self, values: Sequence[Any]) -> Counter[str]:
        """The characters of texts whose tokens the vocabulary does not know, with how often each is there.

        Raises:
            InputError: a value is not a text.
        """
        found: Counter[str] = Counter()
        for value, encoding in zip(values, self._encode_batch(values, self._tokenizer), strict=True):
            for token, (start, end), part in zip(encoding.ids, encoding.offsets, encoding.sequence_ids, strict=True):
                if part is not None and token == self._unknown_id:
                    found.update(_parts(value)[part][start:end])
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out; bytes that are no character become U+FFFD."""
        with _told("its tokens have no text"):
            return str(self._tokenizer.decode(list(ids)))

    def pieces(self) -> TextPieces:
        """What turns tokens into text as they come."""
        return TextPieces(self.decode)

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Ids]:
        """Tokens of several texts as `input_ids` and `attention_mask`, `(batch, sequence), int64`.

        They are padded on the left whatever the tokenizer does, since that is where a decoder expects it: each row ends
        where the new tokens begin.
        """
        length = max(map(len, rows), default=0)
        return {
            "input_ids": _left_padded(rows, length, self.pad_id),
            "attention_mask": _left_padded([[1] * len(row) for row in rows], length, 0),
        }

    def dummy(self, batch: int, sequence: int | None = None, seed: int = 0) -> dict[str, Ids]:
        """Random tokens of exactly that many rows and tokens, without padding, for latency and parity.

        The ids are drawn from the vocabulary without its special tokens, the same for the same `seed`.

        Raises:
            InputError: `sequence` is missing or more than `max_length`.
        """
        if sequence is None or not 1 <= sequence <= self.max_length:
            raise InputError(f"the length must be 1 to {self.max_length} tokens for this model, got {sequence}")
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        ids = np.array(sorted(set(self._tokenizer.get_vocab().values()) - special), dtype=np.int64)
        tensors = {
            "input_ids": np.random.default_rng(seed).choice(ids, size=(batch, sequence)),
            "attention_mask": np.ones((batch, sequence), dtype=np.int64),
            "token_type_ids": np.zeros((batch, sequence), dtype=np.int64),
        }
        return {name: tensors[name] for name in self.input_names}

    def for_export(self) -> dict[str, Ids]:
        """Two rows of 8 made-up tokens, the first one padded, for an exporter to trace with."""
        sample = self.dummy(2, 8)
        sample["attention_mask"][0, -3:] = 0
        return sample

    def examples(self) -> list[str]:
        """The sentences of golden vectors."""
        return list(SENTENCES)

    @functools.cached_property
    def _uncut(self) -> Tokenizer:
        tokenizer = copy.deepcopy(self._tokenizer)
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = self._tokenizer.encode_special_tokens
        return tokenizer

    def _encode_one(self, value: Any, tokenizer: Tokenizer) -> Any:
        self.check(value)
        with _told(_NOT_READ):
            encoding = tokenizer.encode(*_parts(value))  # type: ignore[arg-type]
        _require_tokens(value, encoding)
        return encoding

    def _encode_all(self, values: Sequence[Any], tokenizer: Tokenizer) -> list[Any]:
        encodings = self._encode_batch(values, tokenizer)
        for value, encoding in zip(values, encodings, strict=True):
            _require_tokens(value, encoding)
        return encodings

    def _encode_batch(self, values: Sequence[Any], tokenizer: Tokenizer) -> list[Any]:
        """The encodings of many texts, on all cores, be they empty or not."""
        for value in values:
            self.check(value)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else the library complains about later forks
        with _told(_NOT_READ):
            return list(tokenizer.encode_batch([each if isinstance(each, str) else tuple(each) for each in values]))

    def _padded(self, rows: Sequence[Any], length: int, padding: int) -> Ids:
        if self.pads_left:
            return _left_padded(rows, length, padding)
        result = np.full((len(rows), length), padding, dtype=np.int64)
        for target, row in zip(result, rows, strict=True):
            target[: len(row)] = row
        return result


Input = TextInput


def _require_tokens(value: Any, encoding: Any) -> None:
    if not encoding.ids:
        raise InputError(f"the text {_shortened(value)} is empty for this model's tokenizer: it gives no token")


def _parts(value: Any) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def _left_padded(rows: Sequence[Any], length: int, padding: int) -> Ids:
    result = np.full((len(rows), length), padding, dtype=np.int64)
    for target, row in zip(result, rows, strict=True):
        target[length - len(row) :] = row
    return result


_NOT_READ = "the bundle's tokenizer cannot read the text"


@contextlib.contextmanager
def _told(what: str, *, silent: bool = False) -> Iterator[None]:
    """Turn what the tokenizers library raises into `BundleError`: bare exceptions, and panics, which are not even such.

    A panic is also printed by the library itself, unless the process's standard error goes nowhere meanwhile.
    """
    try:
        with _no_standard_error() if silent else contextlib.nullcontext():
            yield
    except TledgeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"{what}: {str(error).partition(chr(10))[0][:200]}") from error


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
    with _STANDARD_ERROR, Path(os.devnull).open("w") as nowhere:
        try:
            kept = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_STANDARD_ERROR = threading.Lock()


def _read_object(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path)[0]
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: expected a folder with a saved tokenizer") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error


def _require_kinds(config: Mapping[str, Any], path: Path) -> None:
    for key, kinds in _KINDS.items():
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, kinds) or isinstance(value, bool) != (kinds is bool):
            raise BundleError(f"{path}: {key} is of a wrong kind: {value!r:.60}")
        if key.endswith("_side") and value not in ("left", "right"):
            raise BundleError(f"{path}: {key} must be left or right, got {value!r:.60}")


def _require_whole_charsmaps(graph: Mapping[str, Any], path: Path) -> None:
    """Refuse tables of normalizers that are shorter than they say: the library then aborts the process."""
    waiting = [graph.get("normalizer")]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        inner, table = part.get("normalizers"), part.get("precompiled_charsmap")
        waiting += inner if isinstance(inner, list) else []
        if isinstance(table, str):
            try:
                content = base64.b64decode(table)
            except ValueError:
                continue  # the library says so
            if int.from_bytes(content[:4], "little") > len(content) - 4:
                raise BundleError(f"{path} is not a tokenizer: its precompiled_charsmap is cut short")


def _max_length(config: Mapping[str, Any], graph: Mapping[str, Any], folder: Path) -> int:
    limits = (config.get("model_max_length"), _part(graph, "truncation").get("max_length"))
    for limit in limits:
        if isinstance(limit, (int, float)) and not isinstance(limit, bool) and 1 <= limit < _NO_LIMIT:
            return int(limit)
    raise BundleError(
        f"{folder / 'tokenizer_config.json'}: expected model_max_length, the most tokens of a text, "
        f"got {limits[0]!r:.60}"
    )


def _input_names(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    names = tuple(config.get("model_input_names") or _KNOWN_NAMES[:2])
    unknown = [name for name in names if name not in _KNOWN_NAMES]
    if unknown:
        raise BundleError(
            f"{folder / 'tokenizer_config.json'}: model_input_names has {', '.join(map(repr, unknown))}; "
            f"a text gives {', '.join(_KNOWN_NAMES)}"
        )
    return names


def _pad_id(tokenizer: Tokenizer, config: Mapping[str, Any], graph: Mapping[str, Any], folder: Path) -> int:
    map_path = folder / "special_tokens_map.json"
    special = _read_object(map_path) if map_path.exists() else {}
    token = (
        _content(config.get("pad_token"))
        or _content(special.get("pad_token"))
        or _part(graph, "padding").get("pad_token")
        or _content(config.get("eos_token"))
        or _content(special.get("eos_token"))
    )
    if token is None:
        raise BundleError(f"{folder / 'tokenizer_config.json'} names neither a pad_token nor an eos_token to pad with")
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise BundleError(f"{folder / 'tokenizer.json'} does not hold the padding token {token!r:.60}")
    return int(token_id)


def _unknown_id(tokenizer: Tokenizer, graph: Mapping[str, Any]) -> int | None:
    """The token that stands for what the vocabulary does not know; `None` where there is no such."""
    facts = _part(graph, "model")
    if facts.get("type") == "Unigram" or "unk_id" in facts:
        number = facts.get("unk_id")
        return int(number) if number is not None else None
    token = facts.get("unk_token")
    return None if token is None else tokenizer.token_to_id(token)


def _part(graph: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of `tokenizer.json`, empty where there is none."""
    part = graph.get(name)
    return part if isinstance(part, Mapping) else {}


def _content(token: Any) -> str | None:
    """The text of a special token, which is stored as itself or as an object with `content`."""
    return token.get("content") if isinstance(token, Mapping) else token


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
