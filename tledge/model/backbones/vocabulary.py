"""Whether tokenizer and embedding belong together."""

from __future__ import annotations

from typing import Any

from tledge.errors import ModelError


def vocabulary_size(tokenizer: Any) -> int:
    """How many rows an embedding must have for all tokens, special ones too."""
    return max(tokenizer.get_vocab().values()) + 1


def check_rows(module: Any, tokenizer: Any, reference: str) -> None:
    """Nothing, where each token has a row of the embedding; more rows than tokens are usual.

    Raises:
        ModelError: there are more tokens than rows.
    """
    try:
        rows = module.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):  # some architectures hash their tokens
        return
    tokens = vocabulary_size(tokenizer)
    if tokens > rows:
        raise ModelError(
            f"model.backbone: the tokenizer of {reference!r} has {tokens} tokens, but its embedding has {rows}; take "
            "the tokenizer that the model was trained with, or resize the embedding (resize_token_embeddings)"
        )
