"""Masked language models: encoders of transformers with the head that says what hidden words were; loaded and saved.

A checkpoint is a plain Hugging Face folder that every tool of the ecosystem opens, and whose encoder other tasks take.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from tledge.artifacts import read_json, write_json
from tledge.errors import ModelError
from tledge.model.backbones.folder import check_not_quantized
from tledge.model.backbones.loading import pretrained
from tledge.model.backbones.transformers import explain, loading_options, place_of
from tledge.model.backbones.vocabulary import check_rows, no_tokenizer
from tledge.model.language import ONE_FILE


@dataclass(frozen=True, slots=True)
class MaskedLanguage:
    """A masked language model with its tokenizer.

    `module` is a `PreTrainedModel` that gives `logits`, `(batch, sequence, vocabulary)`, in eval mode, float32; `notes`
    are lines to tell the user, the last one of a head that is fresh where `is_fresh`.
    """

    reference: str
    module: Any
    tokenizer: Any
    notes: tuple[str, ...] = ()
    is_fresh: bool = False


def load_masked(reference: str, *, revision: str | None = None, max_length: int | None = None) -> MaskedLanguage:
    """The masked language model of a reference, in eval mode, float32.

    Where the checkpoint is an encoder alone its head is fresh, tied to the embedding, and a note says so.

    Args:
        reference: a hub id, a local folder (a checkpoint or run too), or `package:NAME/PATH`.
        revision: the branch, tag or commit of a hub id.
        max_length: tokens that it will be given; it must be able to read so many.

    Raises:
        ModelError: nothing loadable is there, it is no encoder, its tokenizer has no mask, or `max_length` is more than
            it can read.
    """
    transformers_logging.disable_progress_bar()
    place, options = place_of(reference, revision), loading_options(revision)
    try:
        config = AutoConfig.from_pretrained(place, **options)
        if type(config) not in AutoModelForMaskedLM._model_mapping:
            raise ModelError(
                f"model.backbone: {reference!r} ({config.model_type}) has no form that says what hidden words were; "
                "expected an encoder, such as BERT or RoBERTa"
            )
        check_not_quantized(config, reference)
        loaded = pretrained(AutoModelForMaskedLM, place, reference=reference, config=config, free=None, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(explain(reference, error)) from error
    body = f"{loaded.module.base_model_prefix}."
    if any(name.startswith(body) for name in loaded.missing):
        raise ModelError(loaded.misfit or explain(reference, ValueError("weights of its body are missing")))
    notes = loaded.notes
    if loaded.missing:
        tied = "its last layer is the embedding; " if is_tied(loaded.module) else ""
        notes += (
            f"{reference} has no head that says what hidden words were, or not all of it ({len(loaded.missing)} "
            f"weights are missing, such as {loaded.missing[0]}): it begins with random weights; {tied}it has to be "
            "trained",
        )
    tokenizer = masked_tokenizer(reference, revision=revision)
    check_rows(loaded.module, tokenizer, reference)
    limit = _longest(loaded.module)
    if max_length is not None and limit is not None and max_length > limit:
        raise ModelError(f"model.max_length: got {max_length}, but {reference!r} reads at most {limit} tokens")
    config.dtype = torch.float32
    return MaskedLanguage(reference, loaded.module.eval(), tokenizer, notes, bool(loaded.missing))


def masked_tokenizer(reference: str, *, revision: str | None = None) -> Any:
    """The tokenizer of an encoder, as a fast tokenizer of transformers that has a mask and pads on the right.

    Raises:
        ModelError: none can be loaded, or it has no token that hides a word.
    """
    place = place_of(reference, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **loading_options(revision))
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if "backend tokenizer" in str(error):
            raise ModelError(no_tokenizer(reference)) from error
        raise ModelError(explain(reference, error)) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"model.backbone: {reference!r} has no tokenizer.json and none can be made from its files: "
            "a device needs a fast tokenizer; convert it with transformers' convert_slow_tokenizer"
        )
    if tokenizer.mask_token_id is None:
        raise ModelError(
            f"model.backbone: the tokenizer of {reference!r} has no token that hides a word; set mask_token in "
            "tokenizer_config.json, or take an encoder that was trained with one, such as BERT"
        )
    return tokenizer


def save_masked_tokenizer(tokenizer: Any, folder: Path, max_length: int) -> None:
    """Write the tokenizer's files in the form that older readers take too; texts are padded on the right."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model_max_length = max_length
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    facts = {key: value for key, value in read_json(path).items() if key not in ("is_local", "local_files_only")}
    names = list(tokenizer.model_input_names)
    write_json(path, facts | {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names})


def save_masked(module: Any, folder: Path, tokenizer: Any, *, task: str, max_length: int) -> None:
    """Write a checkpoint: config.json, model.safetensors and the tokenizer's files; tied weights are stored once."""
    folder.mkdir(parents=True, exist_ok=True)
    module.config.dtype = torch.float32
    module.config.tledge = {"task": task, "max_length": max_length, "hidden_words": True}
    module.save_pretrained(folder, max_shard_size=ONE_FILE)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_masked_tokenizer(tokenizer, folder, max_length)


def is_tied(module: Any) -> bool:
    """Whether the head's last layer is the embedding."""
    output = module.get_output_embeddings()
    return output is not None and output.weight is module.get_input_embeddings().weight


def _longest(module: Any) -> int | None:
    """The most tokens that it reads; RoBERTa's table of positions has two more rows, which serve none."""
    limit: int | None = getattr(module.config, "max_position_embeddings", None)
    for name, table in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, torch.nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return limit if limit and limit > 0 else None
