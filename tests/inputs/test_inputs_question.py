"""Questions and contexts as windows, and the answers in them, against the definition written out again."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tledge import tasks
from tledge.errors import BundleError, InputError
from tledge.inputs.question import QuestionInput
from tledge.tasks._answers import align, answers

TASK = tasks.load("question_answering")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
CHINESE = "我在北京工作你哪里"


def save(folder: Path, *, max_length=24, side="right", **settings) -> QuestionInput:
    """A word-piece tokenizer of letters and of some Chinese characters."""
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *CHINESE, *"?？。，.!é"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({
            "model_max_length": max_length, "pad_token": "[PAD]", "padding_side": side,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        })
    )  # fmt: skip
    facts = {"stride": 6, "max_answer_length": 5, "no_answer_threshold": None} | settings
    (folder / "windows.json").write_text(json.dumps(facts))
    return QuestionInput.load(folder)


def seed_of(feeds):
    """Logits that depend on a token's id and on its window: `(batch, sequence, 2)`, the same for the same window."""
    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    logits = np.zeros((*ids.shape, 2), np.float32)
    for row, (tokens, kept) in enumerate(zip(ids, mask, strict=True)):
        real = tokens[kept == 1]
        rng = np.random.default_rng([int(n) for n in real])
        logits[row, kept == 1] = rng.normal(size=(len(real), 2)) * 3
    logits[mask == 0] = 1e4  # nobody may look at what pads
    return {"logits": logits}


def by_definition(encoder, question, context, longest, threshold):
    """The answer of a context: each token from the window with most context, one softmax over all, every span tried."""
    tokenizer = Tokenizer.from_str(encoder._tokenizer.to_str())
    tokenizer.no_truncation()
    asked, whole = (tokenizer.encode(text, add_special_tokens=False) for text in (question, context))
    cut = encoder.cut((question, context))
    best, null = {}, []
    for number, ids in enumerate(cut.ids):
        first, size = cut.first[number], cut.sizes[number]
        assert list(ids) == [2, *asked.ids, 3, *whole.ids[first : first + size], 3]
        assert len(ids) <= encoder.max_length
        feeds = {"input_ids": np.asarray([ids]), "attention_mask": np.ones((1, len(ids)), int)}
        (logits,) = seed_of(feeds)["logits"].astype(np.float64)
        null.append(tuple(logits[0]))
        words = whole.word_ids
        for i in range(size):
            word = [j for j in range(len(words)) if words[j] == words[first + i]]
            most = min(word[0] - first, first + size - 1 - word[-1])
            if first + i not in best or most > best[first + i][0]:
                best[first + i] = most, logits[len(asked.ids) + 2 + i]
    none = min(null, key=sum)
    starts, ends = ([none[k]] + [best[i][1][k] for i in range(len(whole.ids))] for k in (0, 1))
    p_start, p_end = (np.exp(x - np.max(x)) / np.exp(x - np.max(x)).sum() for x in (starts, ends))
    spans = [
        (starts[i + 1] + ends[j + 1], -i, -j, p_start[i + 1] * p_end[j + 1])
        for i in range(len(whole.ids))
        for j in range(i, min(i + longest, len(whole.ids)))
    ]
    if not spans or sum(none) - max(spans)[0] > threshold:
        return {"answer": "", "start": -1, "end": -1, "score": pytest.approx(p_start[0] * p_end[0])}
    _, i, j, score = max(spans)
    start, end = whole.offsets[-i][0], whole.offsets[-j][1]
    return {"answer": context[start:end], "start": start, "end": end, "score": pytest.approx(score)}


def text(rng, n_words):
    words = ["".join(rng.choice(list(LETTERS), int(rng.integers(1, 6)))) for _ in range(n_words)]
    for i in range(0, n_words, 5):
        words[i] = str(rng.choice(["ÉTÉ", "北京", "Ünique", "😀", "工作。", "İi"]))
    return str(rng.choice([" ", "  ", "\t", "\r\n"])).join(words)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("threshold", [None, 1.5])
def test_answers_are_those_of_the_definition(tmp_path, threshold, side):
    encoder = save(tmp_path, no_answer_threshold=threshold, side=side)
    seen = {"windows": 0, "none": 0}
    for case in range(50):
        rng = np.random.default_rng(case)
        value = text(rng, int(rng.integers(1, 4))), text(rng, int(rng.integers(1, 40)))
        outputs, _ = encoder.answers(seed_of, [value])
        answer = TASK.narrowed(TASK.decode(outputs, ("answer",))[0])
        assert answer == by_definition(encoder, *value, 5, np.inf if threshold is None else threshold)
        assert value[1][answer["start"] : answer["end"]] == answer["answer"] or not answer["answer"]
        seen["windows"] += len(encoder.cut(value)) > 1
        seen["none"] += not answer["answer"]
        records = TASK.records(outputs, {})
        assert (records["start"][0], records["end"][0]) == (answer["start"], answer["end"])
    assert seen["windows"] > 20
    assert bool(seen["none"]) == (threshold is not None)


def test_the_best_answers_come_in_their_order_and_each_once(tmp_path):
    encoder = save(tmp_path, no_answer_threshold=0.0)
    rng = np.random.default_rng(3)
    outputs, _ = encoder.answers(seed_of, [(text(rng, 2), text(rng, 12) + " 😀😀")])
    most, _ = answers(outputs, 0, 10_000)
    places = [(each.start, each.end) for each in most]
    assert len(set(places)) == len(places) > 50
    assert (-1, -1) in places
    assert [each.score for each in most] == sorted((each.score for each in most), reverse=True)
    (found,) = TASK.decode(outputs, ())
    assert found["answers"] == [each._asdict() for each in most[:20]]
    for count in (1, 3, 20):
        some = TASK.narrowed(found, top_k=count)
        assert some == {**some["answers"][0], "answers": found["answers"][:count]}
    assert TASK.narrowed(found) == found["answers"][0]
    for wrong in (0, 21, True, "3"):
        with pytest.raises(InputError, match="top_k must be 1 to 20 answers"):
            TASK.narrowed(found, top_k=wrong)


def test_several_values_are_answered_as_alone(tmp_path):
    encoder = save(tmp_path)
    rng = np.random.default_rng(1)
    values = [(text(rng, 2), text(rng, n)) for n in (30, 3, 12)]
    alone = [TASK.decode(encoder.answers(seed_of, [value])[0], ())[0] for value in values]
    assert TASK.decode(encoder.answers(seed_of, values)[0], ()) == alone


def test_chinese_has_a_token_for_each_character_and_offsets_of_the_context(tmp_path):
    encoder = save(tmp_path)
    value = "你在哪里工作？", "我在北京工作"
    cut = encoder.cut(value)
    pieces = encoder._tokenizer.get_vocab()
    assert list(cut.ids[0]) == [pieces[c] for c in ("[CLS]", *value[0], "[SEP]", *value[1], "[SEP]")]
    assert cut.offsets.tolist() == [[i, i + 1] for i in range(6)]

    def run(feeds):
        logits = np.zeros((*feeds["input_ids"].shape, 2), np.float32)
        logits[..., 0][feeds["input_ids"] == pieces["北"]] = 9
        logits[..., 1][feeds["input_ids"] == pieces["京"]] = 9
        return {"logits": logits}

    (answer,) = TASK.decode(encoder.answers(run, [value])[0], ("answer",))
    assert (answer["answer"], answer["start"], answer["end"]) == ("北京", 2, 4)
    assert answer["score"] > 0.99


def test_marks_belong_to_their_letter_and_white_space_to_nothing(tmp_path):
    encoder = save(tmp_path)
    context = "go to " + unicodedata.normalize("NFD", "été") + "\r\nnow"

    def run(feeds):
        logits = np.zeros((*feeds["input_ids"].shape, 2), np.float32)
        last = np.flatnonzero(encoder.cut(("a", context)).offsets[:, 1] >= 6 + 4)[0]
        logits[0, 3 + last - 2, 0] = logits[0, 3 + last, 1] = 9
        return {"logits": logits}

    (answer,) = TASK.decode(encoder.answers(run, [("a", context)])[0], ("answer",))
    assert context[answer["start"] : answer["end"]] == answer["answer"]
    assert unicodedata.normalize("NFC", answer["answer"]) == "été"


def test_windows_learn_where_the_answer_is_or_that_it_is_not_there(tmp_path):
    encoder = save(tmp_path)
    for case in range(60):
        rng = np.random.default_rng(case)
        question, context = text(rng, 2), text(rng, int(rng.integers(3, 40)))
        cut = encoder.cut((question, context))
        i = int(rng.integers(len(cut.words)))
        j = min(len(cut.words) - 1, i + int(rng.integers(3)))
        start, end = int(cut.offsets[i, 0]), int(cut.offsets[j, 1])
        answer = context[start:end]
        (target,) = TASK.targets([[start, len(answer), *map(ord, answer)]], 1)
        held = 0
        from_end = align(target, cut, from_end=True)
        for number, (row,) in enumerate(align(target, cut)):
            places, tokens = cut.inside(number)
            first, last, none, begin, size = row.tolist()
            assert (none, begin, begin + size) == (0, places.start, places.stop)
            assert (from_end[number][0, :4] + len(cut.ids[number])).tolist() == [first, last, none, begin]
            if first == 0:
                assert last == 0
                assert not (tokens.start <= i and j < tokens.stop)
                continue
            held += 1
            a, b = (place - places.start + tokens.start for place in (first, last))
            assert (cut.offsets[a, 0], cut.offsets[b, 1]) == (start, end)
        assert held or j - i > 0
    (none,) = TASK.targets([[]], 1)
    assert all(row[0, :2].tolist() == [0, 0] for row in align(none, cut))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (("", "a context"), "the question is empty"),
        (("a question", " \n"), "the context is empty"),
        (("a question",), "expected two texts"),
        ("a question", "expected two texts"),
        (("a question", 3), "expected a text (str), got int"),
        (("a question", "\ud800"), "half a surrogate pair"),
        (("long " * 30, "a context"), "which leaves none for the second"),
    ],
)
def test_what_is_no_question_is_refused_by_name(tmp_path, value, expected):
    with pytest.raises(InputError) as error:
        save(tmp_path).answers(seed_of, [value])
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"max_answer_length": 0}, {"max_answer_length": True}, {"max_answer_length": "30"}, {"no_answer_threshold": "1"},
     {"no_answer_threshold": True}, {"stride": -1}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(tmp_path, settings):
    with pytest.raises(BundleError, match=next(iter(settings))):
        save(tmp_path, **settings)
