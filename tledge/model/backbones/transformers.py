"""Text backbones from transformers: a hub id, a local folder, or a folder inside an installed package."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from tledge import hub, package_files
from tledge.errors import ModelError
from tledge.model.backbones import sentence
from tledge.model.backbones.folder import check as check_folder
from tledge.model.backbones.folder import check_not_quantized
from tledge.model.backbones.loading import Loaded
from tledge.model.backbones.loading import pretrained as pretrained_module
from tledge.model.backbones.vocabulary import check_rows, fits, no_tokenizer

UNUSED_PARTS = ("pooler.",)
"""How names of a body begin that checkpoints often lack, and that are not run unless a recipe asks for them."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A pretrained body with its tokenizer.

    `pooling` is the one its own files speak for, in their words where it is not known here; `missing` are the names of
    weights that its checkpoint has not, and `notes` are lines to tell the user. `unfollowed` are lines about what
    sentence-transformers would do before and after the pooling, which a model with another head does not; `parts` has
    it for one that does.
    """

    reference: str
    module: nn.Module
    config: Any
    tokenizer: Any
    pooling: str
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unfollowed: tuple[str, ...] = ()
    parts: Callable[[], sentence.Parts] = sentence.Parts

    def with_head(self, *, of_texts: Mapping[str, Any], **settings: Any) -> Any:
        """A `TextClassifier` with a fresh head on this backbone; the settings are those of `checkpoint.build`."""
        from tledge.model.classifier import build_text

        return build_text(self, **of_texts, **settings)


def load(reference: str, *, revision: str | None = None, pretrained: bool = True) -> Backbone:
    """The backbone of a reference, in eval mode, float32; with random weights unless `pretrained`.

    Raises:
        ModelError: nothing loadable is there; the message says where was looked and what to do.
    """
    place = place_of(reference, revision)
    transformers_logging.disable_progress_bar()
    options = loading_options(revision)
    try:
        config = AutoConfig.from_pretrained(place, **options)
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(
                f"model.backbone: {reference!r} is an encoder-decoder ({config.model_type}); expected an encoder or a "
                "decoder alone, such as BERT or GPT-2"
            )
        check_not_quantized(config, reference)
        loaded = pretrained_module(AutoModel, place, reference=reference, config=config, free=UNUSED_PARTS, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if "backend tokenizer" in str(error):  # which is made of the files of a vocabulary
            raise ModelError(no_tokenizer(reference)) from error
        raise ModelError(explain(reference, error)) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"model.backbone: {reference!r} has no tokenizer.json and none can be made from its files: "
            "a device needs a fast tokenizer; convert it with transformers' convert_slow_tokenizer"
        )
    tokenizer, notes = _of_its_own_files(tokenizer, loaded.module, place, reference, options)
    check_rows(loaded.module, tokenizer, reference)
    config.dtype = (
        torch.float32
    )  # what is in memory and will be stored, also where the checkpoint was in half precision
    declared, unfollowed = sentence.declared(place, revision=revision, tokenizer=tokenizer)
    pooling = declared or _own_pooling(config, loaded)
    module, missing = loaded.module, loaded.missing
    notes = [*loaded.notes, *notes]
    if getattr(tokenizer, "truncation_side", "right") != "right":
        notes.append(f"the tokenizer of {reference} cuts long texts on the left, as its own files say")
    if not pretrained:  # only now: the pooling is that of the pretrained one
        module, missing, notes, unfollowed = without_weights(config), (), [], []
    parts = functools.partial(sentence.parts, place, revision=revision)
    return Backbone(
        reference, module.eval(), config, tokenizer, pooling, missing, tuple(notes), tuple(unfollowed), parts
    )


def without_weights(config: Any) -> nn.Module:
    """The module of a config, for weights to be loaded into."""
    return AutoModel.from_config(config, dtype=torch.float32).eval()


def config_of(reference: str, *, revision: str | None = None) -> Any:
    """The config of a reference.

    Raises:
        ModelError: no config is there.
    """
    try:
        return AutoConfig.from_pretrained(place_of(reference, revision), **loading_options(revision))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain(reference, error)) from error


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers with their names, hexadecimal: the identity of what a module computes."""
    digest = hashlib.sha256()
    for name, chunk in _tensors(module):
        digest.update(name.encode())
        digest.update(chunk)
    return digest.hexdigest()


def loading_options(revision: str | None) -> dict[str, Any]:
    """What every loader is told: which revision, and never to run or ask to run code of the checkpoint."""
    return {"trust_remote_code": False} | ({} if revision is None else {"revision": revision})


def _tensors(module: nn.Module) -> Iterator[tuple[str, memoryview]]:
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield f"{name}:{tensor.dtype}:{tuple(tensor.shape)}", memoryview(flat.numpy())


def place_of(reference: str, revision: str | None = None) -> str:
    """What transformers can open: a folder, or the hub id as it is.

    Raises:
        ModelError: it is a file, or a folder that is no whole model, or nothing is there, or it cannot be downloaded.
    """
    if reference.startswith("package:"):
        folder = package_files.resolve(reference, error=ModelError)
        if not folder.is_dir():
            raise ModelError(f"model.backbone: {reference!r} is a file; expected a folder with config.json")
        check_folder(folder)
        return str(folder)
    path = Path(reference).expanduser()
    if path.is_file():
        raise ModelError(f"model.backbone: {reference!r} is a file; expected a folder with config.json")
    if path.is_dir():
        path = _of_run(path)
        check_folder(path)
        return str(path)
    if path.is_absolute() or reference.startswith((".", "~")):
        raise ModelError(f"model.backbone: there is no folder {reference!r}")
    hub.check(reference, revision=revision)
    return reference


def _of_run(folder: Path) -> Path:
    """The checkpoint of a run folder, the student's where there is one; any other folder as it is."""
    found = (folder / stage / "checkpoint" for stage in ("distill", "train"))
    return folder if (folder / "config.json").exists() else next((f for f in found if f.is_dir()), folder)


def explain(reference: str, error: Exception) -> str:
    """A loader's error as one line that says what was expected."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, KeyError):  # what transformers looks up by the words of config.json
        return (
            f"model.backbone: cannot load {reference!r}: its config.json names {first}, which this transformers does "
            "not know; mend it there, or take another checkpoint"
        )
    if (Path(reference) / "config.json").exists():
        return f"model.backbone: cannot load {reference!r}: {first} (its files are there, and do not fit one another)"
    return (
        f"model.backbone: cannot load {reference!r}: {first} "
        "(expected a hub id that this machine can reach, a local folder with config.json, or package:NAME/PATH)"
    )


def _of_its_own_files(
    tokenizer: Any, module: Any, place: str, reference: str, options: dict[str, Any]
) -> tuple[Any, list[str]]:
    """The tokenizer without what transformers' class of this architecture puts into it, where the embedding lacks that.

    Qwen2's class, for one, adds a token for padding to every tokenizer that is read with it.
    """
    if fits(module, tokenizer):
        return tokenizer, []
    plain = PreTrainedTokenizerFast.from_pretrained(place, **options)
    if not fits(module, plain):
        return tokenizer, []
    added = sorted(set(tokenizer.get_vocab()) - set(plain.get_vocab()))
    told = f"{', '.join(map(repr, added))} of transformers' tokenizer was left out, since {reference} has no row for it"
    return plain, [told]


def _own_pooling(config: Any, loaded: Loaded) -> str:
    """The last token for decoders, the pooler where the checkpoint holds its weights, else the mean."""
    architectures = " ".join(getattr(config, "architectures", None) or [])
    if "CausalLM" in architectures or "LMHeadModel" in architectures or getattr(config, "is_decoder", False):
        return "last"
    pooler = getattr(loaded.module, "pooler", None)
    if pooler is not None and not any(name.startswith(UNUSED_PARTS) for name in loaded.missing):
        return "pooler"
    return "mean"
