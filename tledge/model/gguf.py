"""Language models out of GGUF files, unpacked to float32.

A file holds weights, config and tokenizer; transformers reads those of the architectures that it has a mapping for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.integrations.gguf.reader import read_gguf_metadata
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from tledge import lfs, package_files
from tledge.errors import ModelError, did_you_mean
from tledge.model.backbones.loading import pretrained

SUFFIX = ".gguf"

_NOT_DECODERS = ("general", "tokenizer", "t5", "umt5")
"""What is in transformers' list and is no architecture of a decoder."""


def is_gguf(reference: str) -> bool:
    """Whether a reference names a GGUF file."""
    return reference.lower().endswith(SUFFIX)


def file_of(reference: str, key: str = "model.backbone") -> Path:
    """The file that a reference names.

    Raises:
        ModelError: there is none; the message starts with the recipe's `key`.
    """
    if reference.startswith(package_files.PREFIX):
        return package_files.resolve(reference, error=ModelError)
    path = Path(reference).expanduser()
    if not path.is_file():
        raise ModelError(f"{key}: there is no file {reference!r}")
    return path


def load(path: Path) -> Any:
    """The language model in a file, in eval mode, float32.

    Raises:
        ModelError: it is no GGUF file, it is damaged, or transformers does not read its architecture.
    """
    config = config_of(path)
    try:
        loaded = pretrained(
            AutoModelForCausalLM,
            str(path.parent),
            reference=str(path),
            config=config,
            free=(),
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            use_safetensors=None,
        )
    except ModelError:
        raise
    except Exception as error:  # the reader of the format raises whatever a damaged file leads to
        raise ModelError(f"model.backbone: {path} cannot be read as GGUF: {_first_line(error)}") from error
    return loaded.module


def config_of(path: Path) -> Any:
    """The config in a file.

    Raises:
        ModelError: it is no GGUF file, it is damaged, or transformers does not read its architecture.
    """
    _check(path)
    try:
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:
        raise ModelError(f"model.backbone: {path} cannot be read as GGUF: {_first_line(error)}") from error


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a file.

    Raises:
        ModelError: it is no GGUF file, it is damaged, or transformers does not read its architecture.
    """
    _check(path)
    try:
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:
        raise ModelError(f"model.backbone: the tokenizer in {path} cannot be read: {_first_line(error)}") from error


def _check(path: Path) -> None:
    """Read the header, whose errors say most."""
    if lfs.is_pointer(path):
        raise ModelError(f"model.backbone: {lfs.advice(path)}")
    try:
        metadata, _ = read_gguf_metadata(str(path))
        architecture = str(metadata["general.architecture"])
    except Exception as error:
        raise ModelError(
            f"model.backbone: {path} is not a whole GGUF file: {_first_line(error)}; download it again"
        ) from error
    known = sorted(set(GGUF_SUPPORTED_ARCHITECTURES).difference(_NOT_DECODERS))
    if architecture not in known and architecture.replace("-", "_") not in known:
        raise ModelError(
            f"model.backbone: {path} is of the architecture {architecture!r}, which transformers cannot read from "
            f"GGUF; known are {', '.join(known)}{did_you_mean(architecture, known)}: take its Hugging Face folder"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
