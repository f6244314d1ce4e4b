"""How much of the training texts the backbone's vocabulary does not know: said, and refused where it is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.errors import DataError
from tledge.inputs import Input
from tledge.stages.job import Job

LOOKED_AT = 2000
"""Training texts that are looked at, evenly spread."""

SHOWN = 5
"""Characters that are named."""

WARNED = 0.05
"""The share of unknown tokens from which on it is said."""


def unknown_share(job: Job, encoder: Input, texts: Sequence[Any]) -> float | None:
    """The share of unknown tokens in the training texts, 0 to 1; `None` for what are no texts.

    Args:
        job: the run; from 5 % on it is told.
        encoder: of the backbone.
        texts: of the training rows.

    Raises:
        DataError: the share is more than `model.max_unknown`.
    """
    step = -(-len(texts) // LOOKED_AT)
    some = list(texts[:: max(1, step)])
    share = encoder.unknown_share(some)
    if share is None:
        return None
    return judged(job, share, _listed(encoder.unknown_characters(some)) if share >= WARNED else "")


def unknown_share_of(job: Job, blocks: npt.NDArray[Any], tokenizer: Any) -> float | None:
    """The share of unknown tokens in the training blocks, 0 to 1; `None` for a tokenizer that has no token for them.

    Args:
        job: the run; from 5 % on it is told.
        blocks: token ids, `(blocks, block)`.
        tokenizer: of the backbone.

    Raises:
        DataError: the share is more than `model.max_unknown`.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id):  # GPT-2's bytes know all texts
        return None
    step = max(1, -(-len(blocks) // LOOKED_AT))
    return judged(job, float(np.mean(blocks[::step] == unknown)))


def _listed(characters: Counter[str]) -> str:
    """How many characters they are, and the most frequent ones."""
    shown = ", ".join(repr(character) for character, _ in characters.most_common(SHOWN))
    return f" ({characters.total():,} characters, {len(characters):,} different ones, such as {shown})"


def judged(job: Job, share: float, characters: str = "") -> float:
    """The share as it is, told from 5 % on, with what is told of the `characters`.

    Raises:
        DataError: it is more than `model.max_unknown`.
    """
    most, backbone = job.recipe.model.max_unknown, job.recipe.model.backbone
    told = f"{share:.1%} of the tokens of the training texts are unknown to the vocabulary of {backbone}{characters}"
    if share > most:
        raise DataError(
            f"{told}, more than model.max_unknown: {most:g}; take a backbone whose tokenizer knows the language, or "
            "raise model.max_unknown"
        )
    if share >= WARNED:
        job.say(f"warning: {told}: what they say is lost on the model; take a backbone whose tokenizer knows them")
    return share
