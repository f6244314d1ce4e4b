"""How alike two answers are, as the SQuAD 2.0 evaluation measures it (Rajpurkar, Jia and Liang 2018).

Lower case, without ASCII punctuation and the English articles, and with single spaces; F1 is of the words in common.
Text that is written without spaces is compared by its characters: each Chinese or Japanese one is a word, and
punctuation of theirs is left out too.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_WIDE = (*range(0x3001, 0x3040), 0x30FB, *range(0xFF01, 0xFF66))
"""Where punctuation of Chinese and Japanese is among other characters."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WIDE_PUNCTUATION = {code: None for code in _WIDE if unicodedata.category(chr(code))[0] in "PS"}
_SHARED_PUNCTUATION = str.maketrans("", "", "“”‘’…—·")
"""Left out only beside Chinese or Japanese characters: SQuAD keeps it in English."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_IDEOGRAPH = re.compile(
    "([\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def normalised(text: str) -> str:
    """A text without what does not count, its words with one space between them."""
    text = text.lower().translate(_PUNCTUATION).translate(_WIDE_PUNCTUATION)
    if _IDEOGRAPH.search(text):
        text = _IDEOGRAPH.sub(r" \1 ", text.translate(_SHARED_PUNCTUATION))
    return " ".join(_ARTICLES.sub(" ", text).split())


def f1(answer: str, truth: str) -> float:
    """The F1 score of the words that two answers have in common, 0 to 1; of an empty one whether both are."""
    ours, theirs = normalised(answer).split(), normalised(truth).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


def best(answer: str, truths: tuple[str, ...]) -> tuple[float, float]:
    """Exact match, 0 or 1, and F1 of an answer, each with the right answer that is the nearest.

    Args:
        answer: what was answered; empty for no answer.
        truths: all right answers; that there is none is right where none of them says anything.
    """
    telling = says_something(truths) or ("",)
    exact = any(normalised(answer) == normalised(truth) for truth in telling)
    return float(exact), max(f1(answer, truth) for truth in telling)


def says_something(answers: Sequence[str]) -> tuple[str, ...]:
    """The answers that are not empty once normalised."""
    return tuple(answer for answer in answers if normalised(answer))
