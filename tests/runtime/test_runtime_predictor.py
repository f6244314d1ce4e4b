"""Predicting with a bundle, and that it needs nothing of the workstation's packages."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sealing

from tledge import metrics
from tledge.errors import BundleError, InputError
from tledge.inputs.text import TextInput
from tledge.runtime import Predictor

TEXTS = ["good train!", "the train is late", "", "bad, bad, bad.", "good " * 50]


def test_answers_are_those_of_the_weights(tiny_bundle, tiny):
    predictor = Predictor.load(str(tiny_bundle), variant="fp32", threads=1)
    assert (predictor.variant, predictor.task) == ("fp32", "text_classification")
    assert predictor.labels == ("negative", "neutral", "positive")
    answers = predictor.predict(TEXTS)
    encoder = TextInput.load(tiny_bundle)
    for text, answer in zip(TEXTS, answers, strict=True):
        expected = metrics.softmax(tiny.reference(encoder.encode([text]))["logits"])[0]
        np.testing.assert_allclose(list(answer["scores"].values()), expected, atol=1e-5)
        assert answer["label"] == predictor.labels[expected.argmax()]
    json.dumps(answers)


def test_one_text_gives_one_answer(tiny_bundle):
    predictor = Predictor.load(tiny_bundle)
    assert predictor.variant == "int8"
    assert predictor.predict("good train!") == predictor.predict(["good train!"])[0]


def test_batches_streams_and_threads_agree(tiny_bundle):
    predictor = Predictor.load(tiny_bundle, threads=1)
    alone = predictor.predict(TEXTS)
    batched = predictor.predict(iter(TEXTS), batch_size=3)
    for one, other in zip(alone, batched, strict=True):
        np.testing.assert_allclose(list(one["scores"].values()), list(other["scores"].values()), atol=1e-6)
    assert list(predictor.predict_iter(iter(TEXTS))) == alone
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predictor.predict, TEXTS * 40)) == alone * 40


def test_stream_is_lazy(tiny_bundle):
    def endless():
        while True:
            yield "good"

    answers = Predictor.load(tiny_bundle).predict_iter(endless(), batch_size=2)
    first = [next(answers) for _ in range(3)]
    assert first == [first[0]] * 3


def test_nothing_to_predict(tiny_bundle):
    assert Predictor.load(tiny_bundle).predict([]) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "expected a text .*got NoneType"),
        (7, "got int"),
        (b"good", "got bytes"),
        ({"text": "good"}, "got dict"),
        (["good", None], "value 1: expected a text"),
        (["good", "\ud800"], "value 1: the text holds half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tiny_bundle, values, message):
    with pytest.raises(InputError, match=message) as error:
        Predictor.load(tiny_bundle).predict(values)
    assert "\n" not in str(error.value)


def test_batch_size(tiny_bundle):
    with pytest.raises(InputError, match="batch_size must be 1 or more, got 0"):
        Predictor.load(tiny_bundle).predict(["good"], batch_size=0)


def test_unknown_variant_and_provider(tiny_bundle):
    with pytest.raises(InputError, match="no variant 'int9'; it has fp32, int8; did you mean 'int8'"):
        Predictor.load(tiny_bundle, variant="int9")
    with pytest.raises(InputError, match="'nowhere' is not known; available are"):
        Predictor.load(tiny_bundle, provider="nowhere")


def test_bundle_of_an_unknown_task(tiny_bundle):
    path = tiny_bundle / "bundle.json"
    sealing.write(path, json.loads(path.read_text()) | {"task": "text_divination"})
    with pytest.raises(BundleError, match="'text_divination' is not among the tasks"):
        Predictor.load(tiny_bundle)


def test_labels_that_do_not_fit_the_outputs(tiny_bundle):
    path = tiny_bundle / "bundle.json"
    data = json.loads(path.read_text())
    sealing.write(path, data | {"labels": data["labels"][:2]})
    with pytest.raises(BundleError, match="2 labels"):
        Predictor.load(tiny_bundle)


def test_device_side_is_light(tiny_bundle):
    """A fresh process predicts without any package of the workstation."""
    code = (
        "import sys; import tledge.runtime\n"
        "print(tledge.runtime.Predictor.load(sys.argv[1]).predict('good')['label'])\n"
        "tledge.runtime.verify(sys.argv[1])\n"
        "heavy = {'torch', 'transformers', 'onnx', 'pydantic', 'yaml', 'sklearn', 'datasets', 'typer', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], check=True, capture_output=True, text=True)
    label, heavy = done.stdout.splitlines()
    assert label in ("negative", "neutral", "positive")
    assert heavy == "[]"
    assert done.stderr == ""
