"""Blocks of tokens: a text goes on from one to the next, and each token but the first is predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tledge.answers import hashes_of
from tledge.evaluate import Array
from tledge.inputs._one_pass import OnePass
from tledge.recipe import Recipe
from tledge.stages.job import Job
from tledge.stages.rows import Scored
from tledge.tasks.causal_lm import RATE

MOST = 100
"""At most so many blocks of a split are scored, evenly spaced, since every variant and several students are."""


@dataclass(frozen=True, slots=True)
class BlockInput(OnePass):
    """Blocks as they are, with how many bytes of text a token stands for: an `Encoder`."""

    bytes_per_token: float

    def encode(self, values: Sequence[Any]) -> dict[str, Array]:
        """`input_ids`, `(blocks, block) int64`, and `bytes_per_token`, `(blocks,) float64`."""
        ids = np.asarray(values, dtype=np.int64)
        return {"input_ids": ids, RATE: np.full(len(ids), self.bytes_per_token)}


def read(job: Job, folder: Path) -> str:
    """Read the sources with the model's own tokenizer and write the blocks; no weights are loaded."""
    from tledge import model

    settings = job.recipe.model
    model.check_length(settings.backbone, settings.max_length, revision=settings.revision)
    tokenizer = model.load_tokenizer(settings.backbone, revision=settings.revision, tokenizer=settings.tokenizer)
    return packed(job, folder, tokenizer, tokenizer.eos_token_id, settings.max_length)


def packed(job: Job, folder: Path, tokenizer: Any, end: int, block: int) -> str:
    """Write the texts of the sources as blocks of tokens.

    Args:
        job: the run.
        folder: takes them.
        tokenizer: of transformers.
        end: the token that ends a text.
        block: tokens in a block.
    """
    from tledge import data

    blocks = data.pack(
        job.recipe.data,
        tokenizer.backend_tokenizer,
        end,
        block=block,
        folder=folder,
        base=Path.cwd(),
        progress=job.progress,
    )
    tokens = ", ".join(f"{count:,} {name} tokens" for name, count in blocks.n_tokens.items())
    left_out = sum(blocks.report["skipped"].values())
    skipped = f", {left_out} broken {'row' if left_out == 1 else 'rows'} left out" if left_out else ""
    return f"{tokens} in blocks of {blocks.block}{skipped}"


def scored(job: Job, split: str, inputs_folder: Path) -> Scored:  # noqa: ARG001
    """Some blocks of a split, evenly spaced; for calibration there are none, since no scheme of theirs needs any."""
    from tledge import data

    blocks = data.open_blocks(job.stage("data"))
    every, rate = getattr(blocks, split), blocks.bytes_per_token.get(split, 0.0)
    chosen = some(every)
    return Scored(cast("Sequence[Any]", chosen), BlockInput(rate), chosen, of=len(every))


def some(blocks: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """At most `MOST` blocks, evenly spaced."""
    if len(blocks) <= MOST:
        return blocks
    return np.asarray(blocks[np.linspace(0, len(blocks) - 1, MOST).astype(int)])


def depends_on(recipe: Recipe) -> Iterable[tuple[Sequence[object], Sequence[str | None]]]:
    """The model's tokenizer, and how many tokens a block has."""
    model = recipe.model
    yield [model.backbone, model.revision, model.tokenizer, model.max_length], [model.backbone, model.tokenizer]


def hashes(scored: Scored) -> Array:
    """Of each block's tokens, `(blocks,) uint64`."""
    return hashes_of([block.tobytes() for block in scored.values])


def files(folder: Path) -> list[str]:  # noqa: ARG001
    """None: blocks are whole."""
    return []
