"""Tokenizers of language models: fast ones, with a token that ends a text and one that pads it on the left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GPT2Tokenizer

from tledge import lfs, package_files
from tledge.errors import ModelError
from tledge.model import gguf
from tledge.model.backbones.transformers import loading_options, place_of

FRESH = "fresh:"
"""How the reference of an architecture with random weights starts."""

_PLAIN_BPE = ("vocab.json", "merges.txt")
_NAMED = ("tokenizer.json", "tokenizer_config.json", "config.json")


def load_tokenizer(reference: str, *, revision: str | None = None, tokenizer: str | None = None) -> Any:
    """The tokenizer of a language model, or another one, as a fast tokenizer of transformers that pads on the left.

    Args:
        reference: as for `load_language`.
        revision: the branch, tag or commit of a hub id.
        tokenizer: what is taken instead of the reference's own: a hub id, `package:NAME/PATH`, a `.gguf` file or a
            folder, also one with no more than GPT-2's `vocab.json` and `merges.txt`.

    Raises:
        ModelError: no fast tokenizer can be loaded, or it has no token that ends a text.
    """
    if tokenizer is None and reference.startswith(FRESH):
        raise ModelError(f"model.tokenizer: {reference!r} has random weights and no tokenizer of its own; name one")
    key, name = ("model.backbone", reference) if tokenizer is None else ("model.tokenizer", tokenizer)
    if tokenizer is None and not gguf.is_gguf(reference):
        place_of(reference)  # which says what is wrong with a folder that is no model
    place = _place(name, key)
    try:
        loaded = _loaded(place, revision if tokenizer is None else None)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"{key}: cannot load the tokenizer of {name!r}: {first} (expected a hub id that this machine can reach, or "
            "a folder with tokenizer.json, or with vocab.json and merges.txt)"
        ) from error
    if not getattr(loaded, "is_fast", False):
        raise ModelError(
            f"{key}: {name!r} has no tokenizer.json and none can be made from its files: "
            "a device needs a fast tokenizer; convert it with transformers' convert_slow_tokenizer"
        )
    if loaded.backend_tokenizer.get_vocab_size(with_added_tokens=False) == 0:  # what transformers makes of no files
        raise ModelError(f"{key}: {name!r} has no tokenizer files; expected tokenizer.json, or name a model.tokenizer")
    if loaded.eos_token_id is None:
        raise ModelError(
            f"{key}: the tokenizer of {name!r} has no token that ends a text; set eos_token in tokenizer_config.json"
        )
    if loaded.pad_token_id is None:
        loaded.pad_token = loaded.eos_token
    loaded.padding_side = "left"
    return loaded


def _place(name: str, key: str) -> Path | str:
    """A folder or a `.gguf` file, or the hub id as it is."""
    if gguf.is_gguf(name):
        return gguf.file_of(name, key)
    if name.startswith(package_files.PREFIX):
        return package_files.resolve(name, error=ModelError)
    path = Path(name).expanduser()
    if path.is_dir():
        for file in path.glob("*.json"):
            if lfs.is_pointer(file):
                raise ModelError(f"{key}: {lfs.advice(file)}")
        return path
    if path.is_file():
        raise ModelError(f"{key}: {name!r} is a file; expected the folder that it is in, or a .gguf file")
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"{key}: there is no folder {name!r}")
    return name


def _loaded(place: Path | str, revision: str | None) -> Any:
    if isinstance(place, Path) and place.is_file():
        return gguf.load_tokenizer(place)
    if isinstance(place, Path):
        there = {path.name for path in place.iterdir()}
        if there.issuperset(_PLAIN_BPE) and not there.intersection(_NAMED):  # nothing names its class
            return GPT2Tokenizer.from_pretrained(place)
    return AutoTokenizer.from_pretrained(str(place), **loading_options(revision))
