"""A question and a context: each stored as it is, and the same when both are the same texts."""

from __future__ import annotations

from tledge.data.columns import Columns, named
from tledge.data.inputs import text, text_pair
from tledge.data.inputs.text_pair import IS_COSTLY, SIZES, TYPES, read

__all__ = ["IS_COSTLY", "NAMES", "NOUN", "RENAME", "SIZES", "TOGETHER", "TYPES", "find", "read", "told_by"]

NOUN = "a question and a context"
RENAME = "one to question, one to context"
NAMES = ("question",)
TOGETHER = "context"
_CONTEXTS = ("context", "passage", "paragraph", "document", "text")


def find(columns: Columns) -> tuple[str, ...]:
    """The columns of texts with such names, or else two with the longest values, as those of pairs."""
    lengths = text.lengths_of(columns)
    found = named(NAMES, lengths), named(_CONTEXTS, lengths)
    return found if all(found) else text_pair.find(columns)


def told_by(columns: Columns) -> str:
    """That answers to questions are learnt, where there are questions, contexts and answers."""
    texts = columns.of_kind("text")
    asked = named(NAMES, texts) and named(("context",), texts)
    return "question_answering" if asked and named(("answers", "answer"), columns.values) else ""
