"""From a recipe's texts to blocks of tokens: read, drop doubles, tokenize, cut into splits, and say what was found."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tledge.artifacts import write_json
from tledge.data import blocks, documents, passages
from tledge.data.blocks import Blocks, Ids, open_blocks
from tledge.data.documents import COLUMN, Stream
from tledge.data.load import quiet
from tledge.data.sources import Options, open_source
from tledge.data.stored import SPLITS, DataReport
from tledge.data.table import EXAMPLES
from tledge.data.tokens import plain
from tledge.digest import sha256
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress, silent
from tledge.recipe.schema import Data

__all__ = ["Blocks", "open_blocks", "pack"]

MOST_MORE = 0.1
"""A part of a source begins with a document, unless that makes it larger by more than this share."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """The tokens of a split: whole blocks from token `start` of the stream of the source `of`, but for some."""

    of: str
    start: int
    n_whole: int
    left_out: frozenset[int] = frozenset()

    @property
    def n_blocks(self) -> int:
        """How many blocks it has."""
        return self.n_whole - len(self.left_out)


def pack(
    settings: Data,
    tokenizer: Tokenizer,
    end: int,
    *,
    block: int,
    folder: Path,
    base: Path,
    progress: Progress = silent,
) -> Blocks:
    """Read the texts of a recipe and write them to a folder as blocks of tokens.

    The documents of a source, the rows of a table or the one of a plain text file, stand one after the other, each with
    the token that ends it, and are cut into blocks. Where the recipe names no sources for them, the last blocks are
    test blocks and those before them validation blocks, so that neighbours stay together; a part begins with a
    document where one begins nearby. What is left of a part, less than a block, is dropped. Of equal documents the
    first is kept. Texts are read piece by piece and tokens stay on disk.

    A document, or a passage of 64 tokens, that stands in a source of the user's own for validation or test and in a
    source that is held out less is refused, or that document and the blocks with that passage are left out.

    Args:
        settings: the recipe's `data`; its counts are of blocks.
        tokenizer: the language model's own.
        end: the id of the token that ends a text.
        block: tokens in a block.
        folder: takes `blocks.safetensors` and `data.json`.
        base: the folder that relative paths start from.
        progress: shown while reading.

    Raises:
        DataError: what the user can mend about the texts.
    """
    _check(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        streams = _streams(settings, plain(tokenizer), end, Path(scratch), base, progress)
        parts = _parts(settings, streams, block)
        for name, other in (("validation", "test"), ("train", "test"), ("train", "validation")):
            if name in streams and other in streams:
                parts = _without_shared(settings, streams, name, other, parts, block, tokenizer)
        blocks.write({name: _cut(streams[part.of].ids, part, block) for name, part in parts.items()}, folder)
        write_json(folder / "data.json", _report(streams, parts, block, tokenizer, end))
        del streams  # their files are open until then
    return open_blocks(folder)


def _check(settings: Data) -> None:
    """Refuse the keys that are about labels."""
    for key in ("labels", "label_names", "unlabelled"):
        if getattr(settings, key):
            raise DataError(f"data.{key}: a language model learns from texts without labels; remove the key")
    other = next((name for name in settings.columns if name != COLUMN), None)
    if other is not None:
        raise DataError(
            f"data.columns: {other!r} is no column of the task; it has {COLUMN}{did_you_mean(other, [COLUMN])}"
        )


def _streams(
    settings: Data, tokenizer: Tokenizer, end: int, scratch: Path, base: Path, progress: Progress
) -> dict[str, Stream]:
    """The stream of each source; what is held out more is read first, so that the others are known to lack it."""
    streams: dict[str, Stream] = {}
    options = Options(settings.encoding, settings.delimiter, settings.download)
    for name in ("test", "validation", "train"):
        reference = getattr(settings, name)
        if isinstance(reference, str):
            source = open_source(reference, f"data.{name}", options, base=base)
            held = {digest: place for each in streams.values() for digest, place in each.digests.items()}
            streams[name] = documents.read(
                source, name, settings, tokenizer, end, held=held, scratch=scratch, progress=progress
            )
    return streams


def _parts(settings: Data, streams: Mapping[str, Stream], block: int) -> dict[str, Part]:
    """Where the blocks of each split are.

    Raises:
        DataError: there are too few tokens.
    """
    asked = {
        "test": settings.test,
        "validation": settings.validation,
        "calibration": settings.calibration or None,
    }
    parts: dict[str, Part] = {}
    train = streams["train"]
    limit = len(train.ids)
    sizes = {name: size for name, size in asked.items() if isinstance(size, int | float)}
    if limit < block * (1 + len(sizes)):
        raise DataError(_too_few("train", train, block, 1 + len(sizes)))
    for name, size in sizes.items():
        count = max(1, round(size * (len(train.ids) // block))) if isinstance(size, float) else size
        start = _beginning(train.starts, limit - count * block, count * block)
        if start < block:
            raise DataError(
                f"data.{name}: {size} of {len(train.ids) // block} blocks is too much of {train.source}, which has "
                f"{len(train.ids):,} tokens: no block of {block} would be left to train on; ask for less"
            )
        parts[name] = Part("train", start, count)
        limit = start
    for name in ("test", "validation"):
        if name in streams:
            if len(streams[name].ids) < block:
                raise DataError(_too_few(name, streams[name], block, 1))
            parts[name] = Part(name, 0, len(streams[name].ids) // block)
    return {"train": Part("train", 0, limit // block)} | {name: parts[name] for name in SPLITS[1:] if name in parts}


def _beginning(starts: array[int], wanted: int, size: int) -> int:
    """Where a part of `size` tokens begins: with the last document that starts before `wanted`, where it is near."""
    nearest = starts[bisect_right(starts, wanted) - 1] if wanted >= 0 else wanted
    return nearest if wanted - nearest <= MOST_MORE * size and nearest > 0 else wanted


def _too_few(name: str, stream: Stream, block: int, n_blocks: int) -> str:
    needed = f"a block of {block}" if n_blocks == 1 else f"{n_blocks} blocks of {block} (one for each split)"
    return (
        f"data.{name}: {stream.source} has {len(stream.ids):,} tokens, and {needed} need {n_blocks * block:,}; give "
        "more text, or a smaller model.max_length"
    )


def _without_shared(
    settings: Data,
    streams: Mapping[str, Stream],
    name: str,
    other: str,
    parts: Mapping[str, Part],
    block: int,
    tokenizer: Tokenizer,
) -> dict[str, Part]:
    """The parts without blocks of the source `name` that hold a passage of `other`, which is held out more.

    Raises:
        DataError: there are such passages, and there must not, or nothing else is left.
    """
    ours, theirs = streams[name], streams[other]
    places = passages.shared(ours.ids, passages.held(theirs.ids))
    if places.size and settings.on_overlap == "fail":
        example = tokenizer.decode(ours.ids[places[0] : places[0] + passages.LENGTH].tolist())
        raise DataError(
            f"{ours.source} has {len(places)} {'passage' if len(places) == 1 else 'passages'} of {passages.LENGTH} "
            f"tokens that {theirs.source} has too, such as {' '.join(example.split())[:60]!r}; take them out of one "
            f"file, or set data.on_overlap: drop to leave the {name} blocks with them out"
        )
    inside = np.append(np.arange(0, passages.LENGTH, block), passages.LENGTH - 1)  # a token of each block it touches
    touched = np.unique(places[:, None] + inside)
    result = dict(parts)
    for split, part in parts.items():
        if part.of == name:
            numbers = set(((touched - part.start) // block).tolist()) & set(range(part.n_whole))
            result[split] = dataclasses.replace(part, left_out=part.left_out | numbers)
            if not result[split].n_blocks:
                raise DataError(f"no block of {ours.source} is left for {split}: {theirs.source} has a passage of each")
    return result


def _cut(tokens: Ids, part: Part, block: int) -> Ids:
    whole = tokens[part.start : part.start + part.n_whole * block].reshape(part.n_whole, block)
    return np.delete(whole, sorted(part.left_out), axis=0) if part.left_out else whole


def _report(
    streams: Mapping[str, Stream], parts: Mapping[str, Part], block: int, tokenizer: Tokenizer, end: int
) -> dict[str, Any]:
    """What `data.json` holds: a `DataReport` whose rows are blocks, and what only texts have.

    `tokens` counts those of all blocks, `predicted` all but the first of each, and `bytes` the UTF-8 bytes of the text
    that the predicted ones stand for. `dropped_tokens` are those in no block, `documents` those that were kept.
    `tokenizer` is the SHA-256 of the tokenizer and `end_of_text` the token that ends documents.
    """
    digest = hashlib.sha256()
    n_bytes = {}
    for name, part in parts.items():
        stream = streams[part.of]
        n_bytes[name] = int(_cut(stream.n_bytes, part, block)[:, 1:].sum(dtype=np.int64))
        digest.update(name.encode())
        digest.update(_cut(stream.ids, part, block).tobytes())
    paths = {name: stream.path for name, stream in streams.items()}
    report = DataReport(
        labels=(),
        sources={name: streams[parts[name].of].source for name in parts},
        n_read={name: stream.n_read for name, stream in streams.items()},
        sha256={name: sha256(path) for name, path in paths.items() if path is not None and path.is_file()},
        rows={name: parts[name].n_blocks if name in parts else 0 for name in SPLITS},
        label_counts={},
        skipped=dict(sum((stream.skipped for stream in streams.values()), Counter[str]())),
        skipped_examples=tuple(e for stream in streams.values() for e in stream.examples)[:EXAMPLES],
        duplicates=sum(stream.doubles for stream in streams.values()),
        conflicts=0,
        conflict_examples=(),
        overlap_dropped=sum(stream.overlap for stream in streams.values())
        + sum(len(p.left_out) for p in parts.values()),
        repeated={},
        fingerprint=digest.hexdigest(),
    )
    used = sum(part.n_blocks for part in parts.values()) * block
    return dataclasses.asdict(report) | {
        "block": block,
        "tokens": {name: part.n_blocks * block for name, part in parts.items()},
        "predicted": {name: part.n_blocks * (block - 1) for name, part in parts.items()},
        "bytes": n_bytes,
        "dropped_tokens": sum(len(stream.ids) for stream in streams.values()) - used,
        "documents": {name: len(stream.starts) for name, stream in streams.items()},
        "tokenizer": tokenizer_digest(tokenizer),
        "end_of_text": end,
    }


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of what a tokenizer does to a text, hexadecimal: it is the same however it cuts and pads."""
    return hashlib.sha256(plain(tokenizer).to_str().encode()).hexdigest()
