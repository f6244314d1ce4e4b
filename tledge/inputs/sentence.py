"""Texts that become vectors: tokenized as other texts, with a prompt before them where the model asks for one.

The prompts are those of sentence-transformers' `config_sentence_transformers.json`; a text gets the default one of that
file, if there is one, unless another is asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.artifacts import read_object
from tledge.errors import BundleError, InputError, did_you_mean
from tledge.inputs.text import Ids, TextInput

PROMPTS = "config_sentence_transformers.json"
"""The file that has the prompts, by name, and the name of the default one."""


MODULES = "modules.json"
"""The file in which sentence-transformers lists the parts of a model: the one JSON file that holds a list."""


class Prompted(str):
    """A text that has its prompt before it already."""

    __slots__ = ()


class SentenceInput(TextInput):
    """The tokenizer of a checkpoint or bundle, and the prompts that its model knows by name; else as `TextInput`."""

    files = (
        *TextInput.files,
        MODULES,
        "sentence_bert_config.json",
        PROMPTS,
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Normalize/config.json",
        "3_Normalize/config.json",
    )
    prompts: Mapping[str, str] = {}
    default_prompt: str | None = None

    @classmethod
    def load(cls, folder: Path) -> SentenceInput:
        """The tokenizer in a folder, with the prompts beside it.

        Raises:
            BundleError: a file is missing or damaged.
        """
        result = super().load(folder)
        assert isinstance(result, cls)
        result.prompts, result.default_prompt = _prompts(folder / PROMPTS)
        return result

    def prompted(self, value: Any, name: str) -> Prompted:
        """A text with the prompt of that name before it.

        Raises:
            InputError: the model has no such prompt, or the value is no text.
        """
        if name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise InputError(
                f"the model has no prompt {name!r}; it has {known}{did_you_mean(name, self.prompts)} (recipe: "
                "model.prompts)"
            )
        self.check(value)
        return Prompted(self.prompts[name] + value)

    def encode(self, values: Sequence[Any]) -> dict[str, Ids]:
        """As of `TextInput`, with the default prompt before each text that has none yet."""
        return super().encode([self._whole(value) for value in values])

    def tokens(self, values: Sequence[Any]) -> tuple[dict[str, npt.NDArray[np.int32]], Ids]:
        """As of `TextInput`, with the default prompt before each text that has none yet."""
        return super().tokens([self._whole(value) for value in values])

    def encode_whole(self, value: str) -> list[int]:
        """As of `TextInput`, with the default prompt before the text if it has none yet."""
        return super().encode_whole(self._whole(value))

    def n_cut(self, value: Any) -> int:
        """As of `TextInput`, with the default prompt before the text if it has none yet."""
        return super().n_cut(self._whole(value))

    def _whole(self, value: Any) -> Any:
        if self.default_prompt is None or isinstance(value, Prompted) or not isinstance(value, str):
            return value
        return self.prompted(value, self.default_prompt)


def _prompts(path: Path) -> tuple[Mapping[str, str], str | None]:
    if not path.exists():
        return {}, None
    try:
        facts = read_object(path)[0]
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error
    prompts, default = facts.get("prompts") or {}, facts.get("default_prompt_name")
    if not isinstance(prompts, Mapping) or not all(isinstance(text, str) for text in prompts.values()):
        raise BundleError(f"{path}: prompts must be texts by name, got {prompts!r:.60}")
    if default is not None and default not in prompts:
        raise BundleError(f"{path}: default_prompt_name is {default!r:.60}, which is not among {', '.join(prompts)}")
    return {str(name): text for name, text in prompts.items()}, default


Input = SentenceInput
