import dataclasses
import shutil

import numpy as np
import onnx
import pytest
import tiny_images
from onnx import numpy_helper

from tledge import export, tasks
from tledge.errors import ExportError, ParityError
from tledge.inputs.image import ImageInput
from tledge.runtime import open_session, session_run

DECISIONS = tasks.load("image_classification").predictions


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "model.onnx"
    export.export(tiny_images.network(), tiny_images.ENCODER.dummy(2), path, opset=20, external_data=False)
    return path


@pytest.fixture
def add(plain, tmp_path):
    """`add(mode, **facts)` puts preprocessing into a copy of the graph: its path, what it takes, and the encoder."""

    def go(mode, **changes):
        facts = dataclasses.replace(tiny_images.FACTS, **changes)
        path = shutil.copy(plain, tmp_path / "model.onnx")
        return path, export.add_preprocessing(path, facts, mode), ImageInput(facts)

    return go


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("cut", ["round", "floor"])
@pytest.mark.parametrize("resize", [36, (40, 33)])
def test_images_of_any_size_come_out_as_outside_the_graph(interpolation, cut, resize, add, plain):
    path, graph, encoder = add("resize_and_normalize", interpolation=interpolation, crop_offset=cut, resize=resize)
    (taken,) = graph.inputs
    assert (taken.name, taken.dtype, taken.shape) == ("pixel_values", "uint8", ("batch_size", "height", "width", 3))
    assert graph.outputs[0].shape == ("batch_size", 3)
    sizes = [(48, 40), (37, 36), (300, 200), (20, 45), (36, 36), (33, 41), (77, 401)]
    images = [tiny_images.pictures(1, height=h, width=w)[0] for h, w in sizes]
    found = export.check_preprocessing(path, session_run(open_session(plain)), encoder, images, DECISIONS)
    assert found["max_steps"] <= 1
    assert found["share_over_one"] == 0
    assert found["same_decisions"] == 1


def test_normalising_alone_takes_the_models_size(add, plain):
    path, graph, encoder = add("normalize", interpolation="lanczos", resize=None)
    assert (graph.inputs[0].dtype, graph.inputs[0].shape) == ("uint8", ("batch_size", 32, 32, 3))
    found = export.check_preprocessing(path, session_run(open_session(plain)), encoder, tiny_images.pictures(3))
    assert found["max_steps"] < 0.01
    assert found["max_output_diff"] < 1e-4
    assert found["same_decisions"] is None


def test_batches_of_images_of_one_size(add):
    path, _, encoder = add("resize_and_normalize")
    inside = ImageInput(dataclasses.replace(encoder.facts, in_graph="resize_and_normalize"))
    run, images = session_run(open_session(path)), tiny_images.pictures(5)
    together = run(inside.encode(images))["logits"]
    alone = np.concatenate([run(inside.encode([image]))["logits"] for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_all_its_nodes_can_be_told_by_their_names(add, plain):
    path, _, _ = add("resize_and_normalize")
    before = {node.name for node in onnx.load(plain).graph.node}
    added = [node for node in onnx.load(path).graph.node if node.name not in before]
    assert len(added) > 5
    assert all(node.name.startswith("preprocess/") and node.domain == "" for node in added)
    onnx.checker.check_model(onnx.load(path))


def test_pixels_that_are_off_are_an_error(add, plain):
    path, _, encoder = add("resize_and_normalize")
    model = onnx.load(path)
    offset = next(t for t in model.graph.initializer if t.name.startswith("preprocess/Add") and t.data_type == 1)
    offset.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(offset) + np.float32(0.1), offset.name))
    onnx.save(model, path)
    with pytest.raises(ParityError, match=r"pixels are up to \d+\.\d steps of 1/255 off .*allowed 2.*: normalize"):
        export.check_preprocessing(path, session_run(open_session(plain)), encoder, tiny_images.pictures(1))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"interpolation": "lanczos"}, "the filter 'lanczos'; possible are bilinear and bicubic"),
        ({"interpolation": "nearest"}, "the filter 'nearest'; possible are bilinear and bicubic"),
        ({"resize": None}, "images are not resized"),
        ({"resize": 30}, r"resized to 30, less than the model's \(32, 32\)"),
    ],
)
def test_what_a_graph_cannot_do_is_one_line(facts, message, add):
    with pytest.raises(ExportError, match=f"^export.preprocessing: .*{message}.*normalize$") as caught:
        add("resize_and_normalize", **facts)
    assert "\n" not in str(caught.value)


def test_an_old_operator_set_cannot_resize(plain, tmp_path):
    model = onnx.load(plain)
    model.opset_import[0].version = 17
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(ExportError, match=r"^export\.opset: got 17, but resizing as Pillow does needs 18"):
        export.add_preprocessing(tmp_path / "old.onnx", tiny_images.FACTS, "resize_and_normalize")
