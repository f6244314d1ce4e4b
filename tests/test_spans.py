"""Spans of texts: how files tell them, how words get tags, and how they are scored."""

import json
import random

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2
from span_project import byte_pairs, save_backbone, word_pieces, words_input

from tledge import tasks
from tledge.tasks import _spans
from tledge.tasks._span_cells import Span, spans_in, spans_of_tags

TASK = tasks.load("token_classification")
TEXT = "Ann Lee lives in New York."
SPANS = (Span("person", 0, 7), Span("place", 17, 25))


@pytest.mark.parametrize(
    "cell",
    [
        [{"label": "person", "start": 0, "end": 7}, {"label": "place", "start": 17, "end": 25}],
        [{"entity": "place", "start": 17, "end": 25, "text": "New York"}, {"type": "person", "start": 0, "end": 7}],
        [[0, 7, "person"], [17, 25, "place"]],
        [(17, 25, "place"), (0, 8, "person")],  # with the blank behind it
        '[[0, 7, "person"], [17, 25, "place"]]',
        "[(0, 7, 'person'), (17, 25, 'place')]",
        {"entities": [[0, 7, "person"], [17, 25, "place"]]},
    ],
)
def test_spans_are_read_as_files_have_them(cell):
    assert spans_in(cell, [TEXT]) == SPANS


@pytest.mark.parametrize("cell", [None, "", [], "[]", float("nan")])
def test_a_text_may_have_no_span(cell):
    assert spans_in(cell, [TEXT]) == ()


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ([[0, 27, "a"]], "spans inside the text's 26 characters; 'a' is from 0 to 27"),
        ([[5, 5, "a"]], "spans inside the text's 26 characters; 'a' is from 5 to 5"),
        ([[-1, 5, "a"]], "spans inside the text's 26 characters; 'a' is from -1 to 5"),
        ([[3, 4, "a"]], "spans that hold more than white space; 'a' does not"),
        ([[0, 5, "a"], [4, 7, "b"]], "spans that do not overlap; a 'Ann L' and b 'Lee' do"),
        ([{"label": "a", "start": 0, "end": 3, "text": "Bob"}], "'Bob' at 0 to 3, where the text has 'Ann'"),
        ("person", 'a list of spans such as {"label": "person", "start": 0, "end": 4} or [0, 4, "person"]'),
        ([[True, 4, "a"]], 'a list of spans such as {"label": "person", "start": 0, "end": 4} or [0, 4, "person"]'),
        ([[0, 4, ""]], 'a list of spans such as {"label": "person", "start": 0, "end": 4} or [0, 4, "person"]'),
        ([[0, 4]], 'a list of spans such as {"label": "person", "start": 0, "end": 4} or [0, 4, "person"]'),
        (7, 'a list of spans such as {"label": "person", "start": 0, "end": 4} or [0, 4, "person"]'),
    ],
)
def test_what_is_no_list_of_spans_is_refused(cell, told):
    with pytest.raises(ValueError) as refused:
        spans_in(cell, [TEXT])
    assert str(refused.value) == told


@pytest.mark.parametrize(
    "tags",
    [
        ["B-person", "I-person", "O", "O", "B-place", "I-place", "O"],
        ["B-person", "E-person", "O", "O", "B-place", "L-place", "O"],
        ["B_person", "I_person", "O", "O", "B_place", "I_place", "O"],
    ],
)
def test_tags_of_every_scheme_give_the_same_spans(tags):
    tokens = ["Ann", "Lee", "lives", "in", "New", "York", "."]
    assert spans_in(tags, [tokens]) == SPANS
    assert spans_in(["S-x", "U-x", *["O"] * 5], [tokens]) == (Span("x", 0, 3), Span("x", 4, 7))


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (["O", "I-a"], "tags that form spans; 'I-a' of token 2 continues no span of 'a'"),
        (["B-b", "I-a"], "tags that form spans; 'I-a' of token 2 continues no span of 'a'"),
        (["S-a", "I-a"], "tags that form spans; 'I-a' of token 2 continues no span of 'a'"),
        (["O", "a"], "tags such as O, B-label and I-label (or with E, S, L, U); got 'a'"),
        (["O", "B-"], "tags such as O, B-label and I-label (or with E, S, L, U); got 'B-'"),
        (["O"], "as many tags as tokens, 2; there are 1"),
        ("O O", "a list of 2 tags, one for each token"),
        (None, "a list of 2 tags, one for each token"),
    ],
)
def test_tags_that_form_no_spans_are_refused(tags, told):
    with pytest.raises(ValueError) as refused:
        spans_in(tags, [["x", "y"]])
    assert str(refused.value) == told


def random_tags(rng, count):
    """Tags that form spans."""
    tags = []
    while len(tags) < count:
        label = rng.choice(["a", "b", "c"])
        tags += rng.choice(
            [["O"], ["O"], [f"B-{label}"], [f"B-{label}", f"I-{label}"], [f"B-{label}"] + [f"I-{label}"] * 2]
        )
    return [*tags[: count - 1], "O"]


def test_scores_are_those_of_seqeval():
    rng = random.Random(4)
    names = ["a", "b", "c"]
    for _ in range(30):
        sizes = [rng.randint(1, 12) for _ in range(8)]
        truth, given = ([random_tags(rng, size) for size in sizes] for _ in range(2))
        given = [t if rng.random() < 0.4 else g for t, g in zip(truth, given, strict=True)]

        def array(rows):
            labels = [[n for label, a, b in spans_of_tags(row) for n in (names.index(label), a, b + 1)] for row in rows]
            return TASK.targets(labels, 3)

        found = TASK.score({"spans": array(given)}, array(truth))
        if not any(get_entities(row) for row in truth):
            continue
        options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
        assert found["f1"] == pytest.approx(f1_score(truth, given, **options))
        assert found["recall"] == pytest.approx(recall_score(truth, given, **options))
        assert found["macro_f1"] == pytest.approx(f1_score(truth, given, average="macro", **options))
        if any(get_entities(row) for row in given):
            assert found["precision"] == pytest.approx(precision_score(truth, given, **options))


def test_a_span_that_overlaps_counts_for_the_overlap_alone():
    truth = TASK.targets([[0, 0, 7], [1, 2, 4], []], 2)
    given = TASK.targets([[0, 4, 7], [0, 2, 4], [0, 0, 3]], 2)
    found = TASK.score({"spans": given}, truth)
    assert found["f1"] == 0
    assert found["overlap_f1"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert TASK.score({"spans": truth}, truth) == dict.fromkeys(TASK.METRICS, 1.0)


def test_rows_without_any_span_have_no_score():
    nothing = TASK.targets([[], []], 2)
    assert TASK.score({"spans": nothing}, nothing) == {}
    assert TASK.most_frequent(nothing, 2)["spans"].tolist() == [[-1, -1, -1]]


def test_two_models_agree_where_they_mark_the_same():
    ours, theirs = TASK.targets([[0, 0, 7, 1, 8, 9], [], [0, 1, 2]], 2), TASK.targets([[0, 0, 7], [], [0, 1, 2]], 2)
    assert TASK.agree({"spans": ours}, {"spans": theirs}).tolist() == [False, True, True]


def test_labels_keep_their_places_under_other_names():
    assert TASK.numbered(SPANS, ["place", "person"]) == [1, 0, 7, 0, 17, 25]
    assert TASK.renamed(SPANS, {"place": "city"})[1] == Span("city", 17, 25)
    assert TASK.label_names((*SPANS, *SPANS)) == ("person", "place")
    assert TASK.output_names(["x", "y"]) == ("O", "B-x", "I-x", "B-y", "I-y")
    with pytest.raises(ValueError, match=r"^place$"):
        TASK.numbered(SPANS, ["person"])


@pytest.mark.parametrize(
    ("how", "aggregation", "tags"),
    [
        ("first", "first", [-100, 1, -100, -100, 2, -100, -100, 0, -100, 3, -100]),
        ("all", "average", [-100, 1, 1, 1, 2, 2, 2, 0, 0, 3, -100]),
        ("all", "simple", [-100, 1, 2, 2, 2, 2, 2, 0, 0, 3, -100]),
    ],
)
def test_tokens_get_the_tags_of_their_words(how, aggregation, tags, tmp_path):
    cut = words_input(tmp_path, word_pieces(), max_length=32).cut("abc def gh i")
    target = TASK.targets([[0, 0, 7, 1, 11, 12]], 2)[0]
    assert [row.tolist() for row in _spans.align(target, cut, tagged_tokens=how, aggregation=aggregation)] == [tags]


def test_a_word_belongs_to_the_span_that_it_shares_a_character_with(tmp_path):
    cut = words_input(tmp_path, word_pieces(), max_length=32).cut("abc def")
    target = TASK.targets([[0, 1, 5]], 1)[0]
    tags = _spans.align(target, cut, tagged_tokens="first", aggregation="first")[0]
    assert tags.tolist() == [-100, 1, -100, -100, 2, -100, -100, -100]


def test_what_is_right_in_training_is_found_again(tmp_path):
    """Tags of windows, taken for a model's answers, give the spans that they were made of."""
    rng = random.Random(7)
    kinds = {"first": word_pieces(), "average": word_pieces(), "max": byte_pairs(), "simple": word_pieces()}
    for aggregation, tokenizer in kinds.items():
        encoder = words_input(tmp_path / aggregation, tokenizer, max_length=20, stride=6, aggregation=aggregation)
        how = "first" if aggregation == "first" else "all"
        for _ in range(40):
            words = ["".join(rng.choices("abcdefghij", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 20))]
            tags = random_tags(rng, len(words))
            spans = [n for label, a, b in spans_in(tags, [words]) for n in ("abc".index(label), a, b)]
            text, target = " ".join(words), TASK.targets([spans], 3)
            cut = encoder.cut(text)
            rows = _spans.align(target[0], cut, tagged_tokens=how, aggregation=aggregation)
            answers = [np.eye(7)[np.maximum(row, 0)] * 9.0 for row in rows]
            found = TASK.records(encoder.joined([text], [cut], answers), {})["spans"]
            assert found.tolist() == target.tolist()


def test_spans_equal_those_of_the_pipeline_of_transformers(tmp_path):
    """On 200 texts with the weights of one checkpoint, for each way to take tokens together."""
    import torch
    from transformers import pipeline

    from tledge import export, model

    save_backbone(tmp_path / "backbone")
    torch.manual_seed(3)
    rng = random.Random(11)
    texts = [
        " ".join("".join(rng.choices("abcdefghij", k=rng.randint(1, 6))) for _ in range(rng.randint(1, 9)))
        for _ in range(200)
    ]
    for aggregation in ("simple", "first", "average", "max"):
        classifier = model.build(
            model.load_backbone(str(tmp_path / "backbone")),
            task="token_classification",
            optimum_task=TASK.OPTIMUM_TASK,
            problem_type=TASK.PROBLEM_TYPE,
            labels=TASK.output_names(["x", "y"]),
            pooling="none",
            max_length=64,
            dropout_prob=0.0,
            head_hidden_size=None,
            windows={"stride": 8, "aggregation": aggregation},
        )
        torch.nn.init.normal_(classifier.classifier.weight, std=0.5)
        classifier.save(tmp_path / aggregation, model.load_backbone(str(tmp_path / "backbone")))
        theirs = pipeline(
            "token-classification", str(tmp_path / aggregation), aggregation_strategy=aggregation, device="cpu"
        )
        encoder = words_input_of(tmp_path / aggregation)
        run = export.torch_run(model.load(tmp_path / aggregation))
        count = 0
        for text, expected in zip(texts, theirs(texts), strict=True):
            got = TASK.decode(encoder.answers(run, [text])[0], ["x", "y"])[0]["spans"]
            assert [(s["label"], s["start"], s["end"]) for s in got] == [
                (e["entity_group"], e["start"], e["end"]) for e in expected
            ]
            np.testing.assert_allclose([s["score"] for s in got], [e["score"] for e in expected], rtol=1e-4)
            count += len(got)
        assert count > 100


def words_input_of(folder):
    from tledge.inputs.words import WordsInput

    return WordsInput.load(folder)


def test_answers_are_plain_json(tmp_path):
    encoder = words_input(tmp_path, word_pieces(), max_length=32)

    def run(feeds):
        logits = np.zeros((*feeds["input_ids"].shape, 5), np.float32)
        logits[..., 3] = 4
        return {"logits": logits}

    answers = TASK.decode(encoder.answers(run, ["ab c", "d"])[0], ["x", "y"])
    assert json.loads(json.dumps(answers)) == answers
    assert [span["text"] for span in answers[0]["spans"]] == ["ab", "c"]
    assert answers[1]["spans"][0].keys() == {"label", "text", "start", "end", "score"}
