"""Exact match and F1 of answers, against the published definition written out again."""

import re
import string
import zlib

import pytest

from tledge.tasks import _answer_text

ANSWERS = (
    "The Broncos", "broncos", "Denver Broncos", "a", "the", "", "the The a", "U.S.", "US", "1,000", "1000",
    "in 1967–70", "in 1967 70", "Côte d'Ivoire", "cote divoire", "an apple, a day", "apple day", "Theatre",
    "\tnew\nline ", "«quoted»", "“quoted”", "quoted", "it's", "its", "x" * 300, "😀 face", "face 😀", "العربية",
    "an-other", "another", "the end", "end the",
)  # fmt: skip


def published(answer, truth):
    """Exact match and F1 of the SQuAD 2.0 evaluation."""

    def words(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    ours, theirs = words(answer), words(truth)
    exact = float(" ".join(ours) == " ".join(theirs))
    if not ours or not theirs:
        return exact, float(ours == theirs)
    left, common = list(theirs), 0
    for word in ours:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return exact, 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return exact, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("truth", ANSWERS)
def test_figures_are_those_of_the_published_evaluation(truth):
    for answer in ANSWERS:
        assert _answer_text.best(answer, (truth,)) == pytest.approx(published(answer, truth)), (answer, truth)


def test_the_nearest_of_several_right_answers_counts():
    for seed in range(200):
        picked = [ANSWERS[zlib.crc32(f"{seed} {i}".encode()) % len(ANSWERS)] for i in range(4)]
        answer, *truths = picked
        telling = [t for t in truths if re.sub(r"\b(a|an|the)\b", "", t.lower()).strip()] or [""]
        each = [published(answer, truth) for truth in telling]
        expected = max(e[0] for e in each), max(e[1] for e in each)
        assert _answer_text.best(answer, tuple(truths)) == pytest.approx(expected)


def test_no_answer_is_right_where_there_is_none():
    assert _answer_text.best("", ()) == _answer_text.best("", ("",)) == (1.0, 1.0)
    assert _answer_text.best("something", ()) == _answer_text.best("", ("something",)) == (0.0, 0.0)


def test_chinese_is_compared_by_characters_without_its_punctuation():
    assert _answer_text.normalised("在 北京，工作。") == "在 北 京 工 作"
    assert _answer_text.best("北京", ("在北京",)) == (0.0, pytest.approx(4 / 5))
    assert _answer_text.best("《北京》", ("北京",)) == (1.0, 1.0)
    assert _answer_text.best("“北京”", ("北京",)) == (1.0, 1.0)
    assert _answer_text.normalised("二〇〇八年 Beijing奥运") == "二 〇 〇 八 年 beijing 奥 运"
    assert _answer_text.normalised("東京タワー") == "東 京 タ ワ ー"
    assert _answer_text.normalised("서울 시") == "서울 시"
