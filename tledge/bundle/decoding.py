"""What a language model's generation needs to know beside its graphs: how much it reads, and its special tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.artifacts import read_object
from tledge.errors import BundleError
from tledge.inputs.text import TextInput


@dataclass(frozen=True, slots=True)
class Decoding:
    """A language model's limits and special tokens.

    `context_length` is the number of tokens that it reads, prompt and new ones together. A text ends with any of
    `eos_token_ids`, which may be empty, and begins with `bos_token_id`, if it has one. `pad_token_id` pads.
    """

    context_length: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    pad_token_id: int


def read_decoding(folder: Path) -> Decoding:
    """What a checkpoint's files say: `generation_config.json` before `config.json`, and the tokenizer's.

    Raises:
        BundleError: a file is missing or damaged.
    """
    encoder = TextInput.load(folder)
    facts: dict[str, Any] = {}
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        try:
            facts |= {key: value for key, value in read_object(path)[0].items() if value is not None}
        except FileNotFoundError as error:
            if name == "config.json":
                raise BundleError(f"{folder} has no {name}; expected a checkpoint") from error
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read as a JSON object: {error}") from error
    end = facts.get("eos_token_id", [])
    return Decoding(
        context_length=encoder.max_length,
        eos_token_ids=tuple(end) if isinstance(end, list) else (end,),
        bos_token_id=facts.get("bos_token_id"),
        pad_token_id=encoder.pad_id,
    )
