"""Whether tokenizer and embedding belong together."""

from __future__ import annotations

from typing import Any

from tledge.errors import ModelError


def vocabulary_size(tokenizer: Any) -> int:
    """How many rows an embedding must have for all tokens, special ones too."""
    return max(tokenizer.get_vocab().values()) + 1


def fits(module: Any, tokenizer: Any) -> bool:
    """Whether each token has a row of the embedding."""
    rows = _rows(module)
    return rows is None or vocabulary_size(tokenizer) <= rows


def check_rows(module: Any, tokenizer: Any, reference: str) -> None:
    """Nothing, where each token has a row of the embedding; more rows than tokens are usual.

    Raises:
        ModelError: there are more tokens than rows, or special tokens alone, as where no file of a tokenizer is there.
    """
    rows, tokens = _rows(module), vocabulary_size(tokenizer)
    if tokens <= len(tokenizer.all_special_tokens):
        raise ModelError(no_tokenizer(reference))
    if rows is not None and tokens > rows:
        raise ModelError(
            f"model.backbone: the tokenizer of {reference!r} has {tokens} tokens, but its embedding has {rows}; take "
            "the tokenizer that the model was trained with, or resize the embedding (resize_token_embeddings)"
        )


def no_tokenizer(reference: str) -> str:
    """The line about a checkpoint without the files of a tokenizer."""
    return (
        f"model.backbone: {reference!r} has no tokenizer: expected tokenizer.json, or the files of its vocabulary, "
        "beside config.json; copy them there from where the weights come from"
    )


def _rows(module: Any) -> int | None:
    """The rows of the embedding, `None` for architectures that hash their tokens."""
    try:
        return int(module.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return None
