"""What rows that say which texts are alike are judged by, beside plain formulas."""

import numpy as np
import pytest
from scipy import stats

from tledge import tasks
from tledge.errors import DataError
from tledge.tasks._related import LABELLED, PAIRS, SCORED, TEXTS, TRIPLES, cosines_of, form_of, halves

TASK = tasks.load("text_embedding")


def judged(vectors, targets):
    return TASK.score(TASK.joined({"sentence_embedding": np.asarray(vectors, np.float32)}, targets), targets)


def test_the_columns_say_what_the_rows_are():
    assert form_of(["text", "text_pair", "label"]) is SCORED
    assert form_of(["text", "text_pair"]) is PAIRS
    assert form_of(["text", "text_pair", "negative"]) is TRIPLES
    assert form_of(["text", "label"]) is LABELLED
    assert form_of(["text"]) is TEXTS
    with pytest.raises(DataError, match="a column 'negative' but no 'text_pair'"):
        form_of(["text", "negative"])


def test_each_form_names_losses_and_metrics_of_the_task():
    for form in (SCORED, PAIRS, TRIPLES, LABELLED, TEXTS):
        assert set(form.losses) <= set(TASK.LOSSES)
        assert TASK.METRIC in form.metrics
        assert set(form.metrics) <= set(TASK.METRICS)


def test_scored_pairs_are_judged_by_the_rank_of_their_cosines():
    rng = np.random.default_rng(3)
    vectors, scores = rng.normal(size=(80, 6)), rng.integers(0, 6, 40).astype(np.float32)
    first, second = vectors[0::2], vectors[1::2]
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    found = judged(vectors, scores)
    assert found["spearman"] == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-5)
    assert found["pearson"] == pytest.approx(stats.pearsonr(cosines, scores).statistic, abs=1e-5)
    assert set(found) == {"spearman", "pearson"}


def by_query(vectors, targets):
    """MRR and recall by their definitions: a mean over queries, whose documents are all second texts, each once."""
    pairs = vectors.reshape(len(targets), 2, -1)
    documents = {d: pairs[i, 1] for i, (_, d) in enumerate(targets.tolist())}
    queries = {}
    for i, (query, document) in enumerate(targets.tolist()):
        queries.setdefault(query, (pairs[i, 0], set()))[1].add(document)
    reciprocal, recall = [], {1: [], 5: [], 10: []}
    for vector, relevant in queries.values():
        cosines = {d: vector @ other / np.linalg.norm(vector) / np.linalg.norm(other) for d, other in documents.items()}
        order = sorted(cosines, key=lambda d: -cosines[d])
        places = [order.index(d) + 1 for d in relevant]
        reciprocal.append(1 / min(places))
        for k, of in recall.items():
            of.append(sum(place <= k for place in places) / len(relevant))
    return {"mrr": np.mean(reciprocal)} | {f"recall_at_{k}": np.mean(of) for k, of in recall.items()}


def test_pairs_are_judged_as_queries_and_documents():
    rng = np.random.default_rng(5)
    texts = [(f"q{i % 25}", f"d{i % 30}") for i in range(60)]  # queries with several answers, documents with several
    texts = list(dict.fromkeys(texts))
    targets = PAIRS.targets(texts, [()] * len(texts))
    of_text = {text: rng.normal(size=8) for row in texts for text in row}
    for query, document in texts:
        of_text[document] = of_text[document] + 0.6 * of_text[query]
    vectors = np.array([of_text[text] for row in texts for text in row], dtype=np.float32)
    found = judged(vectors, targets)
    for name, value in by_query(vectors, targets).items():
        assert found[name] == pytest.approx(value), name
    assert 0 < found["recall_at_1"] < found["recall_at_10"] < 1
    others = rng.normal(size=(40, 8)).astype(np.float32)
    among_more = judged(np.concatenate([vectors, others]), targets)
    assert among_more["mrr"] < found["mrr"]


def test_triples_are_judged_by_their_own_negatives_too():
    texts = [("a", "b", "c"), ("d", "e", "f"), ("g", "h", "i"), ("j", "k", "l")]
    targets = TRIPLES.targets(texts, [()] * 4)
    right = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1]] * 4, np.float32)
    wrong = np.array([[1, 0, 0], [0, 0, 1], [0.9, 0.1, 0]] * 2, np.float32)
    found = judged(np.concatenate([right[:6], wrong]), targets)
    assert found["triplet_accuracy"] == 0.5
    assert judged(right, targets)["triplet_accuracy"] == 1.0


def test_labelled_texts_are_judged_by_their_nearest_neighbours():
    labels = [("a",), ("a",), ("b",), ("b",), ("b",)]
    targets = LABELLED.targets([("t",)] * 5, labels)
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.3]])
    found = judged(vectors, targets)
    assert found["nearest_accuracy"] == pytest.approx(4 / 5)
    assert -1 <= found["spearman"] <= 1
    perfect = judged(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [0.2, 1]]), targets)
    assert perfect["nearest_accuracy"] == 1.0
    assert perfect["spearman"] > 0.8


def test_only_one_row_gives_no_pair_that_is_not_alike():
    targets = PAIRS.targets([("a", "b")], [()])
    records = TASK.joined({"sentence_embedding": np.eye(2, dtype=np.float32)}, targets)
    assert records["known"].tolist() == [[True, False]]
    assert TASK.score(records, targets)["mrr"] == 1.0


def test_the_records_of_rows_can_be_drawn_again():
    rng = np.random.default_rng(0)
    texts = [(f"q{i}", f"d{i}") for i in range(30)]
    targets = PAIRS.targets(texts, [()] * 30)
    records = TASK.joined({"sentence_embedding": rng.normal(size=(60, 4)).astype(np.float32)}, targets)
    assert all(len(array) == 30 for array in records.values())
    rows = rng.integers(0, 30, 30)
    again = TASK.score({name: array[rows] for name, array in records.items()}, targets[rows])
    assert set(again) == set(TASK.score(records, targets))


@pytest.mark.parametrize("text", ["one two three", "x", "", "two words", "字符"])
def test_the_halves_of_a_text_are_its_words(text):
    first, second = halves(text)
    assert "".join((first + second).split()) in {"".join(text.split()), 2 * text}


def test_cosines_of_zero_vectors_are_zero():
    assert np.all(cosines_of(np.zeros((2, 3), np.float32)) == 0)
