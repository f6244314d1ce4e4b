"""Bundles of images: their files, their golden vectors, and what verification finds in them."""

import dataclasses
import json

import numpy as np
import pytest
import sealing
from onnx import TensorProto
from PIL import Image
from safetensors.numpy import load_file, save_file

from tledge import bundle
from tledge.bundle import checksum, golden
from tledge.errors import BundleError
from tledge.inputs.image import ImageInput, write_config
from tledge.runtime import verify

FILES = [
    "README.md",
    "bundle.json",
    "config.json",
    "golden.safetensors",
    "onnx/model.onnx",
    "onnx/model_int8.onnx",
    "preprocessor_config.json",
]
NAMES = ["manifest", "files", "golden inputs", "processor", "opens fp32", "golden fp32", "opens int8", "golden int8"]


def failed(folder):
    """The details of the checks that did not pass, by name, with the hashes made to agree."""
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    sealing.write(path, data | {"files": checksum.hashes(folder)})
    return {check.name: check.detail for check in verify(folder).checks if not check.passed}


def edit_golden(folder, change):
    path = folder / "golden.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.fixture
def in_graph_bundle(tiny_image, tmp_path):
    """A bundle whose graph normalises, or resizes too (here: takes any size), by itself."""

    def make(mode):
        facts = dataclasses.replace(tiny_image.facts, in_graph=mode)
        write_config(tiny_image.checkpoint, facts)
        size = (16, 16) if mode == "normalize" else ("height", "width")
        variants = []
        for variant, path in tiny_image.variants:
            graph = tiny_image.save_graph(path, tiny_image.weights, dtype=TensorProto.UINT8, shape=("batch", *size, 3))
            variants.append((dataclasses.replace(variant, graph=graph), path))
        tiny_image.write(
            tmp_path / mode,
            variants=variants,
            reference=lambda tensors: {
                "logits": (tensors["pixel_values"] / 127.5 - 1).mean((1, 2)) @ tiny_image.weights
            },
        )
        return tmp_path / mode

    return make


def test_layout_and_manifest(tiny_image, tmp_path):
    written = tiny_image.write(tmp_path / "bundle")
    files = [p.relative_to(tmp_path / "bundle").as_posix() for p in (tmp_path / "bundle").rglob("*") if p.is_file()]
    assert sorted(files) == FILES
    loaded = bundle.load(tmp_path / "bundle")
    assert loaded == written
    assert loaded.format_version == 2
    assert (loaded.input.kind, loaded.input.max_length) == ("image", None)
    assert (loaded.golden.values, loaded.golden.images) == ((), 2)
    data = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert data["input"]["max_length"] is None
    assert ImageInput.load(tmp_path / "bundle").facts == tiny_image.facts


def test_checkpoint_without_its_image_processor(tiny_image, tmp_path):
    (tiny_image.checkpoint / "preprocessor_config.json").unlink()
    with pytest.raises(BundleError, match=r"has no preprocessor_config\.json"):
        tiny_image.write(tmp_path / "bundle")


def test_local_paths_are_not_shipped(tiny_image, tmp_path):
    path = tiny_image.checkpoint / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_name_or_path": "/home/somebody/secret"}))
    tiny_image.write(tmp_path / "bundle")
    assert "somebody" not in (tmp_path / "bundle" / "preprocessor_config.json").read_text()


def test_golden_vectors_hold_each_image_once(tiny_image, tiny_image_bundle):
    tensors = load_file(tiny_image_bundle / "golden.safetensors")
    examples = ImageInput(tiny_image.facts).examples()
    for i, example in enumerate(examples):
        np.testing.assert_array_equal(tensors[f"{i}.image"], example)
        assert tensors[f"{i}.input.pixel_values"].shape == (1, 3, 16, 16)
    assert "batch.input.pixel_values" not in tensors
    assert tensors["batch.output.int8.logits"].shape == (2, 3)
    vectors = golden.read(tiny_image_bundle, bundle.load(tiny_image_bundle).golden)
    assert list(vectors.inputs) == ["0", "1", "batch"]
    assert vectors.inputs["batch"]["pixel_values"].shape == (2, 3, 16, 16)
    np.testing.assert_array_equal(vectors.inputs["batch"]["pixel_values"][1:], vectors.inputs["1"]["pixel_values"])


def test_whole_bundle_passes(tiny_image_bundle):
    result = verify(tiny_image_bundle)
    assert [check.name for check in result.checks] == NAMES
    assert result.passed, result
    assert result.checks[2].detail == "2 images give the stored pixels"


@pytest.mark.parametrize(("mode", "cases"), [("normalize", ["0", "1", "batch"]), ("resize_and_normalize", ["0", "1"])])
def test_graphs_that_take_bytes(mode, cases, in_graph_bundle):
    folder = in_graph_bundle(mode)
    vectors = golden.read(folder, bundle.load(folder).golden)
    assert list(vectors.inputs) == cases
    assert vectors.inputs["0"]["pixel_values"].dtype == np.uint8
    assert verify(folder).passed


def test_floats_may_differ_by_a_rounding_and_no_more(tiny_image_bundle):
    def nudge(by):
        def change(tensors):
            tensors["1.input.pixel_values"] = tensors["1.input.pixel_values"] + np.float32(by)

        return change

    edit_golden(tiny_image_bundle, nudge(5e-6))
    assert failed(tiny_image_bundle) == {}
    edit_golden(tiny_image_bundle, nudge(2e-5))
    assert failed(tiny_image_bundle) == {
        "golden inputs": "image 1: pixel_values differs; all images together: pixel_values differs"
    }


def test_bytes_must_be_equal(in_graph_bundle):
    folder = in_graph_bundle("normalize")
    edit_golden(folder, lambda tensors: tensors["0.input.pixel_values"].__setitem__((0, 3, 3, 0), 255))
    assert "image 0: pixel_values differs" in failed(folder)["golden inputs"]


@pytest.mark.parametrize("change", [{"resample": 3}, {"size": {"shortest_edge": 21}}, {"image_std": [0.5, 0.5, 0.51]}])
def test_other_preprocessing(change, tiny_image_bundle):
    path = tiny_image_bundle / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "pixel_values differs" in failed(tiny_image_bundle)["golden inputs"]


def test_graph_of_other_weights(tiny_image_bundle, tiny_image):
    tiny_image.save_graph(tiny_image_bundle / "onnx" / "model.onnx", tiny_image.weights * np.float32(1.3))
    found = failed(tiny_image_bundle)
    assert list(found) == ["golden fp32"]
    assert "image 0: logits is off by" in found["golden fp32"]


@pytest.mark.parametrize("key", ["0.image", "1.input.pixel_values", "1.output.fp32.logits"])
def test_golden_vectors_that_lack_something(key, tiny_image_bundle):
    edit_golden(tiny_image_bundle, lambda tensors: tensors.pop(key))
    assert failed(tiny_image_bundle)


def test_golden_vectors_with_a_stranger(tiny_image_bundle):
    edit_golden(tiny_image_bundle, lambda tensors: tensors.update({"7.image": np.zeros((2, 2, 3), np.uint8)}))
    assert "7.image" in failed(tiny_image_bundle)["golden inputs"]


def test_regression_has_one_label_and_one_output(tiny_image, tmp_path):
    weights = np.float32([[2.0], [1.0], [-1.0]])
    graph = tiny_image.save_graph(tiny_image.graphs / "model.onnx", weights)
    variant = dataclasses.replace(tiny_image.variants[0][0], graph=graph, chosen=True)
    tiny_image.write(
        tmp_path / "bundle",
        variants=[(variant, tiny_image.graphs / "model.onnx")],
        task="image_regression",
        problem_type="regression",
        labels=("brightness",),
        reference=lambda tensors: {"logits": tensors["pixel_values"].mean((2, 3)) @ weights},
    )
    assert verify(tmp_path / "bundle").passed
    from tledge.runtime import Predictor

    grey = Image.new("RGB", (30, 20), (128, 128, 128))
    assert Predictor.load(tmp_path / "bundle").predict(grey) == {
        "value": pytest.approx(2 * (128 / 255 * 2 - 1), abs=1e-4)
    }


def test_manifest_of_before_images_is_read(tiny_bundle):
    """A bundle of the first writers, whose golden vectors name no images."""
    path = tiny_bundle / "bundle.json"
    data = json.loads(path.read_text())
    del data["golden"]["images"]
    sealing.write(path, data)
    assert bundle.load(tiny_bundle).golden.images == 0
    assert verify(tiny_bundle).passed
