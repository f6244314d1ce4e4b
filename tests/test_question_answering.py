"""Questions from rows to a device: a tiny Chinese model learns where people are, and when a text does not tell it."""

import csv
import json
import shutil

import numpy as np
import onnxruntime as ort
import pytest
import tiny_project
import tiny_questions
from tokenizers import Tokenizer

from tledge import answers, bundle, evidence, inputs, pipeline, report, tasks
from tledge.artifacts import read_json
from tledge.evaluate import score
from tledge.evidence.labels.answers import _parts as parts_of
from tledge.recipe import load_recipe
from tledge.runtime import Predictor, open_session, session_run, verify
from tledge.stages.job import Job
from tledge.tasks._answers import pick_threshold

SENTENCE, QUESTION = "我在北京工作", "你在哪里工作?"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with rows and a run on them, up to its bundle."""
    folder = tmp_path_factory.mktemp("questions")
    tiny_questions.save_backbone(folder / "backbone")
    tiny_questions.write_rows(folder / "rows.jsonl", tiny_questions.rows())
    (folder / "recipe.yaml").write_text(json.dumps(tiny_questions.RECIPE), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLEDGE_CACHE", str(folder / "cache"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.chdir(folder)
        pipeline.run(load_recipe(folder / "recipe.yaml"), folder / "run", until="bundle")
    return folder


@pytest.fixture(scope="module")
def predictor(project):
    return Predictor.load(project / "run" / "bundle", variant="fp32")


def job(project):
    return Job(load_recipe(project / "recipe.yaml"), project / "run")


def test_it_learns_to_answer_and_when_not_to(project):
    found = read_json(project / "run" / "quantize" / "variants.json")[0]["test_metrics"]
    assert found["f1"] > 0.8
    assert found["no_answer_accuracy"] > 0.7
    assert found["f1_answerable"] > 0.7


def test_the_tokens_are_characters_and_the_answer_is_a_part_of_the_sentence(project, predictor):
    encoder = inputs.load("question", project / "run" / "bundle")
    vocabulary = Tokenizer.from_file(str(project / "run" / "bundle" / "tokenizer.json")).get_vocab()
    expected = ["[CLS]", *QUESTION, "[SEP]", *SENTENCE, "[SEP]"]
    assert encoder.encode([(QUESTION, SENTENCE)])["input_ids"].tolist() == [[vocabulary[each] for each in expected]]
    answer = predictor.predict((QUESTION, SENTENCE))
    assert set(answer) == {"answer", "start", "end", "score"}
    assert SENTENCE[answer["start"] : answer["end"]] == answer["answer"]
    assert answer["answer"] == "北京"


def test_the_threshold_is_picked_on_the_validation_rows_and_shipped(project):
    run = project / "run"
    shipped = read_json(run / "bundle" / "windows.json")
    assert shipped["max_answer_length"] == 4
    assert shipped["stride"] == 6
    rows = job(project).rows.scored(job(project), "validation", run / "train" / "checkpoint")
    found = score(
        session_run(open_session(run / "bundle" / "onnx" / "model.onnx")),
        inputs.load("question", run / "bundle").always_answering(),
        rows.values,
        rows.targets,
        job(project).task,
    )
    assert (found.records["start"] >= 0).all()
    assert shipped["no_answer_threshold"] == pytest.approx(pick_threshold(found.records, rows.targets))
    assert "windows.json" in bundle.load(run / "bundle").files


def test_a_device_answers_as_the_scores_were_measured(project, predictor):
    run = project / "run"
    rows = job(project).rows.scored(job(project), "test", run / "export" / "inputs")
    stored = answers.read(run / "quantize", "fp32").records
    given = predictor.predict(list(rows.values))
    assert [each["start"] for each in given] == stored["start"].tolist()
    assert [each["end"] for each in given] == stored["end"].tolist()
    assert [each["score"] for each in given] == pytest.approx(stored["score"].tolist(), abs=1e-6)
    assert {bool(each["answer"]) for each in given} == {True, False}


def by_definition(bundle_folder, session, question, context):
    """The answer by the definition: windows of whole words, a softmax over all of them, every span of four tokens."""
    facts = read_json(bundle_folder / "windows.json")
    tokenizer = Tokenizer.from_file(str(bundle_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    asked, text = (tokenizer.encode(each, add_special_tokens=False) for each in (question, context))
    head, room = [2, *asked.ids, 3], 40 - len(asked.ids) - 3
    count, start, seen = len(text.ids), 0, {}
    nothing = []
    assert text.word_ids == sorted(text.word_ids)
    while True:
        stop = start + room
        while stop < count and text.word_ids[stop] == text.word_ids[stop - 1]:
            stop -= 1
        stop = min(stop, count)
        ids = np.asarray([[*head, *text.ids[start:stop], 3]])
        feeds = {
            "input_ids": ids, "attention_mask": np.ones_like(ids),
            "token_type_ids": (np.arange(ids.shape[1]) >= len(head)).astype(np.int64)[None],
        }  # fmt: skip
        logits = session.run(None, {each.name: feeds[each.name] for each in session.get_inputs()})[0][0].astype(float)
        nothing.append(tuple(logits[0]))
        for i in range(start, stop):
            word = [j for j in range(count) if text.word_ids[j] == text.word_ids[i]]
            context_of = min(word[0] - start, stop - 1 - word[-1])
            if i not in seen or context_of > seen[i][0]:
                seen[i] = context_of, logits[len(head) + i - start]
        if stop == count:
            break
        start = stop - facts["stride"]
        while text.word_ids[start] == text.word_ids[start - 1]:
            start -= 1
    none = min(nothing, key=sum)
    logits = np.array([none, *(seen[i][1] for i in range(count))])
    p = np.exp(logits - logits.max(axis=0)) / np.exp(logits - logits.max(axis=0)).sum(axis=0)
    spans = [(logits[i + 1, 0] + logits[j + 1, 1], i, j) for i in range(count) for j in range(i, min(i + 4, count))]
    best, i, j = max(spans, key=lambda each: (each[0], -each[1], -each[2]))
    if sum(none) - best > facts["no_answer_threshold"]:
        return "", -1, -1, p[0, 0] * p[0, 1], len(nothing)
    first, last = text.offsets[i][0], text.offsets[j][1]
    return context[first:last], first, last, p[i + 1, 0] * p[j + 1, 1], len(nothing)


def test_two_hundred_answers_are_those_of_the_definition(project, predictor):
    folder = project / "run" / "bundle"
    session = ort.InferenceSession(str(folder / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    rows = list(tiny_questions.rows())
    n_windows, n_none = 0, 0
    for i in range(200):
        rng = np.random.default_rng(i)
        parts = [rows[int(k)]["context"] for k in rng.integers(0, len(rows), int(rng.integers(1, 9)))]
        question, context = rows[i]["question"], rng.choice(["", " ", "\r\n", "😀", " bla "]).join(parts)
        answer, start, end, value, windows = by_definition(folder, session, question, str(context))
        found = predictor.predict((question, str(context)))
        assert (found["answer"], found["start"], found["end"]) == (answer, start, end)
        assert found["score"] == pytest.approx(value, rel=1e-3, abs=1e-6)
        n_windows += windows > 1
        n_none += not answer
    assert n_windows > 50
    assert n_none > 10


def test_the_best_answers_are_asked_for(predictor):
    found = predictor.predict((QUESTION, SENTENCE), top_k=3)
    assert len(found["answers"]) == 3
    assert found["answers"][0] == predictor.predict((QUESTION, SENTENCE))
    with pytest.raises(Exception, match="top_k must be 1 to 20 answers, got 0"):
        predictor.predict((QUESTION, SENTENCE), top_k=0)
    with pytest.raises(Exception, match="temperature is for language models"):
        predictor.predict((QUESTION, SENTENCE), temperature=1)


def test_the_command_line_reads_questions_and_contexts_from_everywhere(project, capfd, tmp_path):
    run, row = project / "run", {"question": QUESTION, "context": SENTENCE}
    for name in ("rows.csv", "rows.jsonl", "rows.json"):
        path = tmp_path / name
        if name.endswith("csv"):
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("nr", "question", "context"), (1, QUESTION, SENTENCE)])
        elif name.endswith("jsonl"):
            path.write_text(json.dumps(row), encoding="utf-8")
        else:
            paragraphs = [{"context": SENTENCE, "qas": [{"question": QUESTION, "id": "a"}]}]
            path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
        done = tiny_project.call(capfd, "predict", run, "--variant", "fp32", "--file", path)
        assert done.code == 0, done.err
        assert json.loads(done.out)["answer"] == "北京"
    done = tiny_project.call(capfd, "predict", run, QUESTION, SENTENCE, "--top-k", 2, "--variant", "fp32")
    found = json.loads(done.out)
    assert (found["question"], found["context"], len(found["answers"])) == (QUESTION, SENTENCE, 2)
    done = tiny_project.call(capfd, "predict", run, QUESTION, SENTENCE * 40)
    assert (done.code, done.err) == (0, "")  # nothing is left out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["", SENTENCE], "QUESTION 1: the question is empty"),
        ([QUESTION, " "], "QUESTION 1: the context is empty"),
        ([QUESTION], "the task takes question and context together"),
        ([QUESTION, SENTENCE, "--top-p", "0.5"], "--top-p: only for language models"),
        ([QUESTION * 9, SENTENCE], "which leaves none for the second"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(project, capfd, arguments, expected):
    done = tiny_project.call(capfd, "predict", project / "run", *arguments)
    assert (done.code, done.out) == (9, "")
    assert expected in done.err
    assert len(done.err.splitlines()) == 1


def test_the_gate_scores_a_squad_file_with_the_same_threshold(project, capfd, tmp_path):
    run = project / "run"
    rows = job(project).rows.scored(job(project), "test", run / "export" / "inputs")
    by_value = {(row["question"], row["context"]): row for row in tiny_questions.rows()}
    paragraphs = []
    for question, context in rows.values:
        told = by_value[question, context]["answers"]
        pairs = [{"text": t, "answer_start": s} for t, s in zip(told["text"], told["answer_start"], strict=True)]
        paragraphs.append({"context": context, "qas": [{"question": question, "answers": pairs}]})
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    (tmp_path / "budget.yaml").write_text("variant: fp32\nmin_metric: 0.1\nmachine: any\n", encoding="utf-8")
    done = tiny_project.call(
        capfd, "gate", run, "--budget", tmp_path / "budget.yaml", "--rows", tmp_path / "dev.json",
        "--json", tmp_path / "verdict.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    (found,) = (each for each in read_json(tmp_path / "verdict.json")["findings"] if each["limit"] == "min_metric")
    assert found["measured"] == pytest.approx(
        read_json(run / "quantize" / "variants.json")[0]["test_metrics"]["f1"], abs=1e-6
    )


def test_each_character_of_a_context_is_shown_once():
    context = "".join(chr(97 + i % 26) for i in range(2000))
    parts = list(parts_of(context, [(300, 360, "wrong"), (350, 370, "missed"), (1500, 1510, "missed")]))
    told = [(part.text, part.kind) for part in parts if part.kind]
    assert told == [
        (context[300:350], "wrong"),
        (context[350:360], "wrong missed"),
        (context[360:370], "missed"),
        (context[1500:1510], "missed"),
    ]
    between = f"{context[370:610]} ... {context[1260:1500]}"
    whole = f"... {context[60:370]}{between}{context[1500:1750]} ..."
    assert "".join(part.text for part in parts) == whole
    assert [part.text for part in parts_of("short", [(0, 5, "right")])] == ["short"]


def test_report_and_card_show_answers_in_their_contexts(project):
    facts = evidence.facts(load_recipe(project / "recipe.yaml"), project / "run")
    assert facts.marked
    records = answers.read(project / "run" / "quantize", next(v.name for v in facts.variants if v.chosen)).records
    targets = job(project).rows.scored(job(project), "test", project / "run" / "export" / "inputs").targets
    exact = tasks.load("question_answering").score(records, targets)["exact_match"]
    assert facts.wrong_count == round((1 - exact) * len(targets))
    kinds = [part.kind for text in facts.marked for part in text.parts]
    assert "right" in kinds
    assert all(text.above for text in facts.marked)
    page = report.html(facts)
    assert '<mark class="right"' in page
    assert "Confusion matrix" not in page
    card = report.model_card(facts)
    assert 'predictor.predict(("a question", "the text that answers it"))' in card
    assert "pipeline_tag: question-answering" in card
    assert "## Labels" not in card
    assert "Windows: 40 tokens, 6 of them shared; longer texts are read in several" in card


def test_a_bundle_whose_threshold_was_changed_is_found_out(project, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(project / "run" / "bundle", folder)
    facts = read_json(folder / "windows.json")
    (folder / "windows.json").write_text(json.dumps(facts | {"no_answer_threshold": 99.0}), encoding="utf-8")
    assert not verify(folder).passed
    assert verify(project / "run" / "bundle").passed
