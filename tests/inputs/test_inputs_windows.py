"""Windows over texts of any length, and where words stand in texts of many scripts."""

import random

import numpy as np
import pytest
from span_project import EXTRAS, SCRIPTS, TOKENIZERS, save_inputs, word_pieces, words_input

from tledge import metrics, tasks
from tledge.errors import BundleError
from tledge.inputs.words import WordsInput, joined_text, token_offsets

LABELS = ("a", "b")


def texts(count, seed):
    """Texts of words of eight scripts, alone and mixed, with what is hard about them in between."""
    rng = random.Random(seed)
    names = list(SCRIPTS)
    for _ in range(count):
        scripts = rng.choices(names, k=rng.choice([1, 1, 2, 3]))
        words = [
            "".join(rng.choices(SCRIPTS[rng.choice(scripts)].replace(" ", ""), k=rng.randint(1, 7)))
            for _ in range(rng.randint(1, 14))
        ]
        for _ in range(rng.randint(0, 3)):
            words.insert(rng.randint(0, len(words)), rng.choice(EXTRAS))
        yield "".join(word + rng.choice([" ", " ", "  ", "", "\n", "\t", "\r\n"]) for word in words)


def marks_every_word(feeds):
    """A model that begins a span of the first label at each token."""
    logits = np.zeros((*feeds["input_ids"].shape, 5), np.float32)
    logits[..., 1] = 9
    return {"logits": logits}


def marks_by_token(feeds):
    """A model whose answer to a token follows from its number alone, wherever it stands."""
    ids = feeds["input_ids"]
    return {"logits": np.stack([np.sin(ids * (k + 1.7)) * 3 for k in range(5)], axis=-1).astype(np.float32)}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_spans_are_the_characters_that_they_are_said_to_be(name, tmp_path):
    task = tasks.load("token_classification")
    encoder = words_input(tmp_path, TOKENIZERS[name]())
    for text in texts(2000, seed=3):
        outputs, _ = encoder.answers(marks_every_word, [text])
        spans = task.decode(outputs, LABELS)[0]["spans"]
        at = 0
        for span in spans:
            assert text[span["start"] : span["end"]] == span["text"]
            assert at <= span["start"] < span["end"] <= len(text)
            assert span["text"] == span["text"].strip() or not span["text"].strip()
            at = span["end"]
        found = task.records(outputs, {})["spans"][0]
        assert [tuple(row) for row in found.tolist() if row[0] >= 0] == [(0, s["start"], s["end"]) for s in spans]
        if name == "byte_pairs":  # which leaves nothing out
            covered = {i for span in spans for i in range(span["start"], span["end"])}
            assert {i for i, c in enumerate(text) if not c.isspace()} <= covered


@pytest.mark.parametrize("stride", [0, 3, 9])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_windows_cover_each_text_without_cutting_a_word(name, stride, tmp_path):
    encoder = words_input(tmp_path, TOKENIZERS[name](), max_length=13, stride=stride)
    for text in texts(150, seed=stride):
        cut = encoder.cut(text)
        seen = np.zeros(len(cut.words), int)
        for window in range(len(cut)):
            _, tokens = cut.inside(window)
            seen[tokens] += 1
            assert len(cut.ids[window]) <= 13
            words = cut.words[tokens]
            for end in (tokens.start, tokens.stop):
                inside_a_word = 0 < end < len(cut.words) and cut.words[end - 1] == cut.words[end]
                longest = max(np.unique(cut.words, return_counts=True)[1])
                assert not inside_a_word or longest > 11 - stride, (text, words)
        assert (seen > 0).all()
        assert stride or (seen == 1).all()


def test_a_token_is_judged_where_its_word_has_most_context(tmp_path):
    encoder = words_input(tmp_path, word_pieces(), max_length=13, stride=5)
    for text in texts(150, seed=9):
        cut = encoder.cut(text)
        for token, word in enumerate(cut.words):
            mine = np.flatnonzero(cut.words == word)
            context = []
            for window in range(len(cut)):
                tokens = cut.inside(window)[1]
                inside = tokens.start <= token < tokens.stop
                context.append(min(mine[0] - tokens.start, tokens.stop - 1 - mine[-1]) if inside else -99)
            assert cut.judged[token] == int(np.argmax(context))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_windows_answer_as_one_long_text_where_context_does_not_matter(name, tmp_path):
    short = words_input(tmp_path / "short", TOKENIZERS[name](), max_length=12, stride=4)
    long = words_input(tmp_path / "long", TOKENIZERS[name](), max_length=4000, stride=4)
    values = list(texts(100, seed=21))
    ours, theirs = (each.answers(marks_by_token, values)[0] for each in (short, long))
    for key in ("probabilities", "offsets"):
        np.testing.assert_array_equal(ours[key], theirs[key])
    alone = [short.answers(marks_by_token, [value])[0]["probabilities"][0] for value in values]
    for row, one in zip(ours["probabilities"], alone, strict=True):
        np.testing.assert_array_equal(row[: len(one)], one)


def test_no_more_windows_run_at_once_than_there_are_texts(tmp_path):
    encoder = words_input(tmp_path, word_pieces(), max_length=8, stride=2)
    sizes = []

    def run(feeds):
        sizes.append(len(feeds["input_ids"]))
        return marks_every_word(feeds)

    encoder.answers(run, ["abc def ghi " * 5])
    assert len(sizes) > 3
    assert set(sizes) == {1}
    sizes.clear()
    encoder.answers(run, ["abc def ghi " * 5, "a"])
    assert max(sizes) == 2


def test_the_tokens_of_a_word_answer_together_as_asked(tmp_path):
    by_token = None
    for aggregation in ("simple", "first", "average", "max"):
        encoder = words_input(tmp_path / aggregation, word_pieces(), max_length=64, aggregation=aggregation)
        outputs, _ = encoder.answers(marks_by_token, ["abc de, f"])
        found, offsets = outputs["probabilities"][0], outputs["offsets"][0].tolist()
        if aggregation == "simple":
            by_token = found
            assert offsets == [[0, 1], [1, 2], [2, 3], [4, 5], [5, 6], [6, 7], [8, 9]]
            continue
        assert offsets == [[0, 3], [4, 6], [6, 7], [8, 9]]
        words = [by_token[:3], by_token[3:5], by_token[5:6], by_token[6:7]]
        expected = {
            "first": [word[0] for word in words],
            "average": [word.mean(axis=0) for word in words],
            "max": [word[word.max(axis=1).argmax()] for word in words],
        }[aggregation]
        np.testing.assert_allclose(found, expected)


def test_a_text_without_words_has_no_answer_and_is_no_error(tmp_path):
    encoder = words_input(tmp_path, word_pieces())
    outputs, _ = encoder.answers(marks_every_word, ["", " \n", "ab"])
    answers = tasks.load("token_classification").decode(outputs, LABELS)
    assert [len(answer["spans"]) for answer in answers] == [0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stride": 16}, "stride must be 0 to 15 tokens, got 16"),
        ({"stride": True}, "stride must be 0 to 15 tokens, got True"),
        ({"aggregation": "last"}, "aggregation must be one of first, average, max, simple, got 'last'"),
    ],
)
def test_settings_that_are_not_understood_are_refused(settings, told, tmp_path):
    save_inputs(tmp_path, word_pieces(), **settings)
    with pytest.raises(BundleError) as refused:
        WordsInput.load(tmp_path)
    assert str(refused.value) == f"{tmp_path / 'windows.json'}: {told}"


def test_missing_or_broken_settings_are_refused(tmp_path):
    path = save_inputs(tmp_path, word_pieces()) / "windows.json"
    path.write_text("[", encoding="utf-8")
    with pytest.raises(BundleError, match=r"windows\.json cannot be read as JSON"):
        WordsInput.load(tmp_path)
    path.unlink()
    with pytest.raises(BundleError, match=r"windows\.json is missing"):
        WordsInput.load(tmp_path)


def test_other_settings_are_another_identity(tmp_path):
    found = {
        words_input(tmp_path / f"{stride}{kind}", word_pieces(), stride=stride, aggregation=kind).identity
        for stride in (2, 4)
        for kind in ("first", "max")
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["I", "live", "in", "Rome", "."], "I live in Rome ."),
        (["我", "在", "北", "京", "。"], "我在北京。"),
        (["我", "用", "GPU", "训", "练"], "我 用 GPU 训 练".replace("我 用", "我用").replace("训 练", "训练")),
        (["👍🏽", "e\u0301"], "👍🏽 e\u0301"),
        ([], ""),
    ],
)
def test_tokens_become_one_text_in_which_each_is_found_again(tokens, text):
    assert joined_text(tokens) == text
    assert [text[start:end] for start, end in token_offsets(tokens)] == tokens


def test_probabilities_sum_to_one(tmp_path):
    encoder = words_input(tmp_path, word_pieces(), aggregation="average")
    found = encoder.answers(marks_by_token, ["abc de"])[0]["probabilities"][0]
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    logits = marks_by_token({"input_ids": np.array([[7]])})["logits"]
    assert metrics.softmax(logits).shape == (1, 1, 5)
