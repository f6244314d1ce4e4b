"""Texts in which words are hidden, and the likeliest words for each, with the `tokenizers` library.

A hidden word is written `[MASK]`, or as the tokenizer itself writes it, such as `<mask>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer

from tledge import metrics
from tledge.artifacts import read_object
from tledge.errors import BundleError, InputError
from tledge.inputs._one_pass import Array, Run
from tledge.inputs.text import Ids, TextInput
from tledge.masks import Masking

MASK = "[MASK]"
"""How a hidden word is written for every model."""

EXAMPLES = (
    "[MASK] is warm in summer and cold in winter.",
    "The [MASK] leaves the harbour at seven in the morning.",
    "La [MASK] brûlée est servie à Orléans.",
    "图书[MASK]在火车站的右边。",
    "[MASK] and two [MASK] bridges stand by the river.",
)
"""What golden vectors are made of; the same for every bundle and nobody's data."""

N_BEST = 100
"""So many of the likeliest words are found for each hidden one."""
_SPACES = ("\u2581", "\u0120")
"""How SentencePiece and byte-level vocabularies write the space before a word."""


class MaskedTextInput(TextInput):
    """The tokenizer of a checkpoint or bundle whose texts hide words; else as `TextInput`.

    `mask` is how the tokenizer writes a hidden word, and `masking` what hiding words knows of its vocabulary.
    """

    expected = "a text with a [MASK]"
    mask: str
    masking: Masking

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As for `TextInput`.

        Raises:
            BundleError: a file is missing or damaged, or none names a token that hides a word.
        """
        found = super().load(folder)
        names = [_mask_token(folder / name) for name in cls.files[1:] if (folder / name).exists()]
        mask = next(filter(None, names), None)
        if mask is None or found._tokenizer.token_to_id(mask) is None:
            raise BundleError(
                f"{folder / cls.files[1]}: expected mask_token, a token of the vocabulary that hides a word, got {mask}"
            )
        found.mask = mask
        found.masking = masking_of(found._tokenizer, mask)
        return found

    def check(self, value: object) -> None:
        """Nothing for a text in which a word is hidden.

        Raises:
            InputError: `value` is no text, or hides no word.
        """
        super().check(value)
        assert isinstance(value, str)
        if MASK not in value and self.mask not in value:
            other = "" if self.mask == MASK else f", or {self.mask},"
            raise InputError(f"the text {value!r:.60} has no mask; write {MASK}{other} where a word is to be found")

    def encode(self, values: Sequence[Any]) -> dict[str, Ids]:
        """As for `TextInput`.

        Raises:
            InputError: a value is no text, hides no word, or hides one behind the tokens that the model reads.
        """
        for value in values:
            self.check(value)
        spelled = [value.replace(MASK, self.mask) for value in values]
        tensors = super().encode(spelled)
        for value, places in zip(spelled, self._places(tensors), strict=True):
            hidden, read = value.count(self.mask), int(places.sum())
            if read < hidden:
                raise InputError(
                    f"the text {value!r:.60} has {hidden} {'mask' if hidden == 1 else 'masks'}, but the model reads "
                    f"{self.max_length} tokens, with {read} of them; give a shorter text"
                )
        return tensors

    def passes(self, values: Sequence[Any]) -> tuple[list[dict[str, Array]], Any]:
        """The tensors of the one pass, and where its hidden words are.

        Raises:
            InputError: a value cannot be encoded.
        """
        tensors = self.encode(values)
        return [tensors], self._places(tensors)

    def whole(self, outputs: Sequence[Mapping[str, Array]], known: Any) -> dict[str, Array]:
        """The likeliest words for each hidden one.

        Returns:
            `words`, texts, and `scores`, their probabilities, `(values, masks, N_BEST)`, the likeliest first; and
            `found`, `(values, masks) bool`, where there is a hidden word. Special tokens are no words.
        """
        probabilities = metrics.softmax(outputs[0]["logits"][known])
        probabilities[:, np.flatnonzero(self.masking.special)] = -1.0
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :N_BEST]
        best = best[:, : int((~self.masking.special).sum())]
        counts = known.sum(axis=1)
        found = np.arange(counts.max(initial=0)) < counts[:, None]
        scores = np.zeros((*found.shape, best.shape[1]))
        words = np.full(scores.shape, "", dtype=object)
        scores[found] = np.take_along_axis(probabilities, best, axis=1)
        words[found] = np.array([[self._word(int(token)) for token in row] for row in best], dtype=object)
        return {"words": words, "scores": scores, "found": found}

    def golden(self, run: Run) -> Run:
        """A run that gives the logits of hidden words alone, `(masks, vocabulary)`: all others would fill a bundle."""

        def of_masks(tensors: Mapping[str, Array]) -> dict[str, Array]:
            outputs = run(tensors)
            return outputs | {"logits": outputs["logits"][self._places(tensors)]}

        return of_masks

    def examples(self) -> list[str]:
        """The texts of golden vectors."""
        return list(EXAMPLES)

    def _places(self, tensors: Mapping[str, Array]) -> Array:
        """Where words are hidden, `(batch, sequence) bool`."""
        return np.asarray(tensors["input_ids"] == self.masking.mask)

    def _word(self, token: int) -> str:
        """A token as a text: a word, or a part of one as the vocabulary writes it."""
        return self.decode([token]).strip()


Input = MaskedTextInput


def masking_of(tokenizer: Tokenizer, mask: str) -> Masking:
    """What hiding words knows of a tokenizer's vocabulary; `mask` is one of its tokens."""
    texts = {number: token for token, number in tokenizer.get_vocab().items()}
    special = np.ones(max(texts) + 1, np.bool_)
    special[list(texts)] = False
    special[[number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = True
    mask_id = tokenizer.token_to_id(mask)
    assert mask_id is not None
    special[mask_id] = True
    goes_on = np.zeros(len(special), np.bool_)
    prefix = getattr(tokenizer.model, "continuing_subword_prefix", None) or ""
    space = next((each for each in _SPACES if any(token.startswith(each) for token in texts.values())), "")
    for number, token in texts.items():
        goes_on[number] = token.startswith(prefix) if prefix else bool(space) and _goes_on(token, space)
    goes_on &= ~special
    encoding: Any = tokenizer.encode("a")
    own = [i for i, is_special in enumerate(encoding.special_tokens_mask) if not is_special]
    first, last = (own[0], own[-1]) if own else (len(encoding.ids), len(encoding.ids))
    return Masking(int(mask_id), goes_on, special, tuple(encoding.ids[:first]), tuple(encoding.ids[last + 1 :]))


def _goes_on(token: str, space: str) -> bool:
    """Whether a token without a space before it is a part of a word: letters, but none that is a word of its own."""
    return not token.startswith(space) and any(map(str.isalnum, token)) and not any(map(_is_word, token))


def _is_word(character: str) -> bool:
    """Whether a character is of a script that is written without spaces."""
    return "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff"


def _mask_token(path: Path) -> str | None:
    """The token that hides a word, as a tokenizer's file names it: by itself, or as an object with `content`."""
    try:
        token = read_object(path)[0].get("mask_token")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None
