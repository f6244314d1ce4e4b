"""Predicting with a bundle of images: one value and several, and what an error says."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from tledge.errors import InputError
from tledge.inputs.image import write_config
from tledge.runtime import Predictor


@pytest.fixture
def predictor(tiny_image_bundle):
    return Predictor.load(tiny_image_bundle, threads=1)


def labels(answers):
    return [answer["label"] for answer in answers]


def test_one_value_gives_one_answer(predictor, photos):
    red = photos / "red.jpg"
    array = np.asarray(Image.open(red))
    values = [str(red), red, red.read_bytes(), bytearray(red.read_bytes()), Image.open(red), array]
    values += [{"path": str(red), "bytes": None}, {"bytes": red.read_bytes()}]
    for value in values:
        answer = predictor.predict(value)
        assert answer["label"] == "red", type(value)
        json.dumps(answer)
    assert predictor.predict(array[..., 0])["scores"]["red"] == pytest.approx(1 / 3)  # grey has none of its own


def test_several_values_give_a_list(predictor, photos):
    paths = [photos / "red.jpg", photos / "more" / "green.png", photos / "more" / "blue.png"]
    assert labels(predictor.predict(paths)) == ["red", "green", "blue"]
    assert labels(predictor.predict(map(str, paths), batch_size=2)) == ["red", "green", "blue"]
    assert labels(predictor.predict_iter(iter(paths))) == ["red", "green", "blue"]
    arrays = np.stack([np.full((9, 9, 3), colour, np.uint8) for colour in [(200, 0, 0), (0, 0, 200)]])
    assert labels(predictor.predict(arrays)) == ["red", "blue"]
    assert labels(predictor.predict([arrays[0]])) == ["red"]
    assert predictor.predict([]) == []


def test_single_images_and_batches_agree(predictor):
    arrays = np.random.default_rng(0).integers(0, 256, (7, 30, 20, 3), dtype=np.uint8)
    alone = [predictor.predict(array) for array in arrays]
    batched = predictor.predict(arrays, batch_size=4)
    for one, other in zip(alone, batched, strict=True):
        np.testing.assert_allclose(list(one["scores"].values()), list(other["scores"].values()), atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected an image .*got NoneType"),
        (7, "got int"),
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        (b"text", "an image of 4 bytes is no image"),
        (np.zeros((2, 2, 3)), r"got \(2, 2, 3\) of float64"),
        (np.zeros(5, np.uint8), "value 0: expected an image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(predictor, value, message):
    with pytest.raises(InputError, match=message) as caught:
        predictor.predict(value)
    assert "\n" not in str(caught.value)


def test_the_wrong_one_of_several_is_named(predictor, photos):
    good = photos / "red.jpg"
    with pytest.raises(InputError, match=r"^value 1: .*notes\.txt is no image"):
        predictor.predict([good, photos / "notes.txt"])
    half = photos / "half.jpg"
    half.write_bytes(good.read_bytes()[:-300])
    for batch_size in (1, 3):
        with pytest.raises(InputError, match=r"^value 2: .*half\.jpg is damaged"):
            predictor.predict([good, good, half, good], batch_size=batch_size)


def test_graph_that_resizes_gets_one_image_at_a_time(tiny_image, tmp_path, photos):
    write_config(tiny_image.checkpoint, dataclasses.replace(tiny_image.facts, in_graph="resize_and_normalize"))
    shape = ("batch", "height", "width", 3)
    graph = tiny_image.save_graph(
        tiny_image.graphs / "model.onnx", tiny_image.weights, dtype=TensorProto.UINT8, shape=shape
    )
    variant = dataclasses.replace(tiny_image.variants[0][0], graph=graph, chosen=True)
    tiny_image.write(tmp_path / "b", variants=[(variant, tiny_image.graphs / "model.onnx")], reference=None)
    predictor = Predictor.load(tmp_path / "b")
    paths = [photos / "red.jpg", photos / "more" / "green.png", photos / "more" / "blue.png"]
    assert labels(predictor.predict(paths, batch_size=8)) == ["red", "green", "blue"]


def test_device_side_is_light_and_pillow_waits_for_an_image(tiny_image_bundle, tiny_bundle, photos):
    code = (
        "import sys; from tledge.runtime import Predictor, verify\n"
        "Predictor.load(sys.argv[1]).predict('good'); print('PIL' in sys.modules)\n"
        "print(Predictor.load(sys.argv[2]).predict(sys.argv[3])['label']); verify(sys.argv[2])\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'timm', 'onnx', 'pydantic', 'datasets', 'typer', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    arguments = [tiny_bundle, tiny_image_bundle, photos / "red.jpg"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "red", "[]"]
    assert done.stderr == ""
