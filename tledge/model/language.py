"""Language models: decoders of transformers with their own head and tokenizer; loaded, made with random weights, saved.

A checkpoint is a plain Hugging Face folder that every tool of the ecosystem opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from tledge.artifacts import read_json, write_json
from tledge.errors import ModelError, did_you_mean
from tledge.model import gguf
from tledge.model.backbones.folder import check_not_quantized
from tledge.model.backbones.loading import pretrained
from tledge.model.backbones.transformers import config_of, explain, loading_options, place_of
from tledge.model.backbones.vocabulary import vocabulary_size
from tledge.model.language_tokenizer import FRESH, load_tokenizer
from tledge.model.student.config import fields_of, with_shape
from tledge.recipe.distillation import Shape

INPUT_NAMES = ["input_ids", "attention_mask"]
ONE_FILE = "10TB"
"""A size that no checkpoint reaches, so that its weights are in one file."""

_EXPECTED = "expected a decoder with its output layer, such as GPT-2 or Llama"
_CAUSAL_ATOL = 1e-3


@dataclass(frozen=True, slots=True)
class Language:
    """A language model with its tokenizer.

    `module` is a `PreTrainedModel` that gives logits of the next token, in eval mode, float32; `config` is its own, and
    `notes` are lines to tell the user.
    """

    reference: str
    module: Any
    config: Any
    tokenizer: Any
    notes: tuple[str, ...] = ()


def load_language(
    reference: str,
    *,
    revision: str | None = None,
    shape: Shape | None = None,
    tokenizer: str | None = None,
    seed: int | None = None,
    max_length: int | None = None,
) -> Language:
    """The language model of a reference, in eval mode, float32.

    Args:
        reference: a hub id, a local folder (a checkpoint too), `package:NAME/PATH`, a `.gguf` file, or `fresh:TYPE` for
            random weights of an architecture of transformers, such as `fresh:gpt2`.
        revision: the branch, tag or commit of a hub id.
        shape: the sizes of a fresh one, where they differ from the architecture's defaults.
        tokenizer: as for `load_tokenizer`; a fresh one needs it.
        seed: of random weights; `None` takes torch's random state as it is.
        max_length: tokens that it will be given. A fresh one gets it as its context, since positions that it never
            trains on would be worth nothing; another one must be able to read so many.

    Raises:
        ModelError: nothing loadable is there, it is no decoder, it has no output layer, tokenizer and embedding do not
            fit together, or `max_length` is more than it can read.
    """
    transformers_logging.disable_progress_bar()
    tokens = load_tokenizer(reference, revision=revision, tokenizer=tokenizer)
    notes: tuple[str, ...] = ()
    if reference.startswith(FRESH):
        fresh = _fresh_config(reference, shape, vocabulary_size(tokens), max_length)
        module = _with_random_weights(fresh, reference, seed)
    elif gguf.is_gguf(reference):
        module = gguf.load(gguf.file_of(reference))
    else:
        module, notes = _pretrained(reference, revision)
    config = module.config
    _check_vocabulary(module, tokens, tokenizer or reference, reference)
    _check_causal(module, reference)
    _check_length(config, reference, max_length)
    own_ids = tokenizer is None and not reference.startswith(FRESH)
    _set_special_tokens(module, tokens, keep=own_ids)
    config.dtype = torch.float32  # what is in memory and will be stored
    return Language(reference, module, config, tokens, notes)


def save_language(module: Any, folder: Path, tokenizer: Any) -> None:
    """Write a checkpoint: config.json, model.safetensors, generation_config.json and the tokenizer's files.

    Tied weights are stored once. The tokenizer's length limit is the model's context, and it pads on the left.

    Args:
        module: a language model of transformers.
        folder: made where it is missing.
        tokenizer: of the module.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module.config.dtype = torch.float32
    module.save_pretrained(folder, max_shard_size=ONE_FILE)
    _for_older_readers(folder / "config.json")
    _save_tokenizer(tokenizer, folder, context_length(module.config))


def context_length(config: Any) -> int:
    """The most tokens, prompt and new ones together, that a language model can read.

    Raises:
        ModelError: its config does not say.
    """
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        found = getattr(config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    raise ModelError(
        f"model.backbone: the config of this {config.model_type} names no context length; set max_position_embeddings "
        "in its config.json"
    )


def check_length(reference: str, max_length: int, *, revision: str | None = None) -> None:
    """Nothing, where the language model of a reference can read so many tokens; its weights are not loaded.

    Raises:
        ModelError: it cannot, or no config is there.
    """
    if reference.startswith(FRESH):
        return
    config = (
        gguf.config_of(gguf.file_of(reference)) if gguf.is_gguf(reference) else config_of(reference, revision=revision)
    )
    _check_length(config, reference, max_length)


def _check_length(config: Any, reference: str, max_length: int | None) -> None:
    limit = context_length(config)
    if max_length is not None and max_length > limit:
        raise ModelError(f"model.max_length: got {max_length}, but {reference!r} reads at most {limit} tokens")


def _pretrained(reference: str, revision: str | None) -> tuple[Any, tuple[str, ...]]:
    place = place_of(reference, revision)
    options = loading_options(revision)
    try:
        config = AutoConfig.from_pretrained(place, **options)
        _check_decoder(config, reference)
        check_not_quantized(config, reference)
        loaded = pretrained(AutoModelForCausalLM, place, reference=reference, config=config, free=None, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(explain(reference, error)) from error
    if loaded.misfit is not None:
        head = _output_layer(loaded.module)
        without_head = any(name.startswith(head) for name in loaded.missing)
        raise ModelError(
            f"model.backbone: {reference!r} is no language model: it lacks {len(loaded.missing)} weights, such as "
            f"{loaded.missing[-1]!r}; {_EXPECTED}"
            if without_head
            else loaded.misfit
        )
    return loaded.module, loaded.notes


def _output_layer(module: Any) -> str:
    """How the names of the layer begin that gives logits of tokens."""
    layer = module.get_output_embeddings()
    return next((f"{name}." for name, each in module.named_modules() if each is layer), "lm_head.")


def _check_decoder(config: Any, reference: str) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"model.backbone: {reference!r} is an encoder-decoder ({config.model_type}); {_EXPECTED}, that reads its "
            "prompt itself"
        )
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ModelError(
            f"model.backbone: {reference!r} ({config.model_type}) has no form that goes on with a text; {_EXPECTED}"
        )


def _fresh_config(reference: str, shape: Shape | None, n_tokens: int, max_length: int | None) -> Any:
    """The config of an architecture with these sizes."""
    kind = reference.removeprefix(FRESH)
    known = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if kind not in known:
        raise ModelError(
            f"model.backbone: transformers has no language model of the type {kind!r}; known are gpt2, llama, qwen3, "
            f"mistral, gpt_neox and {len(known) - 5} more{did_you_mean(kind, known)}"
        )
    config = AutoConfig.for_model(kind)
    _check_decoder(config, reference)
    if shape is not None:
        config = _shaped(config, shape)
    config.vocab_size = n_tokens
    if max_length is not None and hasattr(config, "max_position_embeddings"):
        config.max_position_embeddings = max_length
    return config


def _shaped(config: Any, shape: Shape) -> Any:
    try:
        fields_of(config)
    except ModelError as error:
        raise ModelError(
            f"model.shape: the config of {config.model_type!r} does not tell its sizes in known words; remove the key"
        ) from error
    try:
        return with_shape(config, shape)
    except ModelError as error:
        raise ModelError(str(error).replace("distill.student.shape", "model.shape")) from error


def _with_random_weights(config: Any, reference: str, seed: int | None) -> Any:
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        except (ValueError, RuntimeError, AssertionError, TypeError) as error:
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(f"model.shape: no {reference!r} can be made: {first}; mend the sizes") from error


def _check_vocabulary(module: PreTrainedModel, tokenizer: Any, name: str, reference: str) -> None:
    rows, tokens = module.get_input_embeddings().weight.shape[0], vocabulary_size(tokenizer)
    if tokens > rows:
        raise ModelError(
            f"model.tokenizer: that of {name!r} has {tokens} tokens, but the embedding of {reference!r} has {rows}; "
            "take the tokenizer that the model was trained with"
        )


def _check_causal(module: PreTrainedModel, reference: str) -> None:
    """No token may change what is said before it; an encoder with an output layer loads, and would look ahead."""
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 0]]) % module.get_input_embeddings().weight.shape[0]
    with torch.no_grad():  # what a model keeps of this pass must serve training too
        logits = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, :3]
    if not torch.allclose(logits[0], logits[1], atol=_CAUSAL_ATOL, rtol=_CAUSAL_ATOL):
        raise ModelError(
            f"model.backbone: {reference!r} ({module.config.model_type}) is an encoder: each token sees the ones after "
            f"it; {_EXPECTED}"
        )


def _set_special_tokens(module: PreTrainedModel, tokenizer: Any, *, keep: bool) -> None:
    """Tell config and generation config which tokens end, begin and pad a text; `keep` what they say themselves."""
    for facts in (module.config, module.generation_config):
        for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
            if not keep or getattr(facts, name, None) is None:
                setattr(facts, name, getattr(tokenizer, name))


def _save_tokenizer(tokenizer: Any, folder: Path, context: int) -> None:
    """Write the tokenizer's files in the form that older readers take too."""
    tokenizer.model_max_length = context
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    path = folder / "tokenizer_config.json"
    facts = {key: value for key, value in read_json(path).items() if key not in ("is_local", "local_files_only")}
    # transformers leaves out a side that was not there when the tokenizer was made.
    facts |= {"padding_side": "left", "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": INPUT_NAMES}
    write_json(path, facts)


def _for_older_readers(path: Path) -> None:
    """Put the base of rotary positions where transformers 4 looks for it too."""
    config = read_json(path)
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope and "rope_theta" not in config:
        write_json(path, config | {"rope_theta": rope["rope_theta"]})
