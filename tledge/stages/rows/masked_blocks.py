"""Blocks of tokens in which words are hidden, which are to be found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tledge import inputs
from tledge.errors import ModelError
from tledge.evaluate import Array, Run
from tledge.inputs._one_pass import OnePass
from tledge.inputs.masked_text import MaskedTextInput
from tledge.recipe import Recipe
from tledge.stages.job import Job
from tledge.stages.rows import Scored
from tledge.stages.rows.blocks import depends_on as depends_on_tokenizer
from tledge.stages.rows.blocks import files, hashes, packed, some

__all__ = ["HiddenWords", "depends_on", "files", "hashes", "read", "scored"]


@dataclass(frozen=True, slots=True)
class HiddenWords(OnePass):
    """Blocks with special tokens around each, in which words are hidden: an `Encoder`."""

    encoder: MaskedTextInput

    def encode(self, values: Sequence[Any]) -> dict[str, Array]:
        """What the model takes, `(blocks, length) int64` each."""
        shown = self._masked(values)[0]
        tensors = {"input_ids": shown, "attention_mask": np.ones_like(shown), "token_type_ids": np.zeros_like(shown)}
        return {name: tensors[name] for name in self.encoder.input_names}

    def hidden(self, values: Sequence[Any]) -> Array:
        """What is hidden, `(blocks, length) int64`, and `IGNORED` elsewhere."""
        return self._masked(values)[1]

    def answers(self, run: Run, values: Sequence[Any]) -> tuple[dict[str, Array], dict[str, Array]]:
        """The outputs of a model for some blocks, and the tensors it was given, with `labels` of what is hidden."""
        tensors = self.encode(values)
        return run(tensors), tensors | {"labels": self.hidden(values)}

    def _masked(self, values: Sequence[Any]) -> tuple[Array, Array]:
        masking = self.encoder.masking
        return masking.fixed(masking.framed(np.asarray(values, dtype=np.int64)))


def read(job: Job, folder: Path) -> str:
    """Read the sources with the encoder's own tokenizer and write the blocks; no weights are loaded."""
    from tledge import model

    settings = job.recipe.model
    tokenizer = model.masked_tokenizer(settings.backbone, revision=settings.revision)
    around = tokenizer.num_special_tokens_to_add()
    if settings.max_length <= around + 1:
        raise ModelError(f"model.max_length: got {settings.max_length}, but {around} special tokens surround each text")
    ends = (tokenizer.sep_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    end = next((each for each in ends if each is not None), tokenizer.mask_token_id)
    return packed(job, folder, tokenizer, end, settings.max_length - around)


def scored(job: Job, split: str, inputs_folder: Path) -> Scored:
    """Some blocks of a split, evenly spaced, in which the same words are hidden each time."""
    from tledge import data

    blocks = getattr(data.open_blocks(job.stage("data")), split)
    chosen = some(blocks)
    encoder = HiddenWords(cast("MaskedTextInput", inputs.load(job.task.INPUT, inputs_folder)))
    wanted = encoder.hidden(list(chosen)) if len(chosen) else np.empty((0, 0), np.int64)
    return Scored(cast("Sequence[Any]", chosen), encoder, wanted, of=len(blocks))


def depends_on(recipe: Recipe) -> Iterable[tuple[Sequence[object], Sequence[str | None]]]:
    """The encoder's tokenizer, and how many tokens a block has."""
    return depends_on_tokenizer(recipe)
