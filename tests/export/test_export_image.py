import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tiny_images
import torch
from torch import nn

from tledge import export, tasks
from tledge.errors import ExportError, ParityError
from tledge.runtime import open_session, session_run

TASK = tasks.load("image_classification")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny network with its graph."""
    model, path = tiny_images.network(), tmp_path_factory.mktemp("graph") / "model.onnx"
    sample = tiny_images.ENCODER.dummy(2)
    graph = export.export(model, sample, path, opset=20, external_data=False)
    return SimpleNamespace(model=model, path=path, graph=graph, sample=sample, stored=onnx.load(path))


def found_on(torch_run, graph_run, predictions=TASK.predictions):
    inputs = list(export.cases(tiny_images.ENCODER, tiny_images.pictures(4)))
    return export.check(torch_run, graph_run, inputs, predictions, atol=1e-4, rtol=1e-3)


def reference(run):
    return [np.concatenate([run(tiny_images.ENCODER.encode([image]))["logits"] for image in tiny_images.pictures(4)])]


def test_takes_any_number_of_images_of_one_size(made):
    (taken,), (given,) = made.graph.inputs, made.graph.outputs
    assert (taken.name, taken.dtype, taken.shape) == ("pixel_values", "float32", ("batch_size", 3, 32, 32))
    assert (given.name, given.dtype, given.shape) == ("logits", "float32", ("batch_size", 3))
    assert made.graph.size_bytes == made.path.stat().st_size
    assert (made.graph.opset, made.graph.ir_version) == (20, 10)
    onnx.checker.check_model(made.stored)


def test_norms_are_folded_means_are_pools_and_the_second_head_is_left_out(made):
    operators = [node.op_type for node in made.stored.graph.node]
    assert "BatchNormalization" not in operators
    assert "ReduceMean" not in operators
    assert operators.count("GlobalAveragePool") == 2
    assert operators.count("Gemm") == 1


def test_no_path_of_this_machine_is_in_the_file(made):
    raw = made.path.read_bytes()
    for place in (Path.cwd(), tempfile.gettempdir(), Path.home(), "site-packages", ".py", "Traceback"):
        assert str(place).encode() not in raw


def test_every_case_agrees_and_could_have_failed(made):
    run = export.torch_run(made.model)
    found = found_on(run, session_run(open_session(made.path)))
    export.require(found, reference(run), where="parity.json")
    assert all(case.passed and case.same_decision for case in found)
    assert {case.batch for case in found} == {1, 3, 4, 5}
    assert {case.sequence for case in found} == {None}
    assert not any(case.padded for case in found)
    assert len({case.name for case in found}) == len(found)


def test_extreme_images_reach_the_ends_of_the_range():
    inputs = {name: feeds["pixel_values"] for name, feeds, _ in export.cases(tiny_images.ENCODER, [])}
    low, high = ((v - np.array(tiny_images.FACTS.mean)) / np.array(tiny_images.FACTS.std) for v in (0.0, 1.0))
    np.testing.assert_allclose(inputs["all black"][0].mean((1, 2)), low, rtol=1e-5)
    np.testing.assert_allclose(inputs["all white"][0].mean((1, 2)), high, rtol=1e-5)
    assert inputs["black and white squares"].std() > inputs["noise"].std() > 0.1


def test_another_graph_is_found_and_named(made):
    other = export.torch_run(tiny_images.network(seed=1))
    found = found_on(export.torch_run(made.model), other)
    with pytest.raises(
        ParityError, match=r"^parity: the graph differs from torch by .* at '(image|random|noise|all|bl)"
    ):
        export.require(found, reference(other), where="parity.json")


def test_a_model_that_says_the_same_to_everything_proves_nothing():
    model = tiny_images.network()
    nn.init.zeros_(model.classifier.weight)
    run = export.torch_run(model)
    with pytest.raises(ParityError, match="a comparison proves nothing; expected a trained checkpoint"):
        export.require(found_on(run, run), reference(run), where="parity.json")


def test_numbers_have_no_decisions_to_compare():
    run = export.torch_run(tiny_images.network(1))
    found = found_on(run, run, tasks.load("image_regression").predictions)
    assert all(case.passed and case.same_decision is None for case in found)
    missing = found_on(run, lambda feeds: {}, tasks.load("image_regression").predictions)
    assert not any(case.passed for case in missing)


class Counting(nn.Module):
    """Its forward works for one batch size alone."""

    def forward(self, pixel_values):
        return {"logits": pixel_values.mean((1, 2, 3)).reshape(2, 1) * 1.0}


class Broken(nn.Module):
    def forward(self, pixel_values):
        raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize("model", [Counting(), Broken()])
def test_a_model_that_cannot_be_translated_is_one_line(model, made, tmp_path):
    with pytest.raises(ExportError) as caught:
        export.export(model, made.sample, tmp_path / "m.onnx", opset=20, external_data=False)
    assert str(caught.value).startswith(f"export: {type(model).__name__} ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


def test_another_opset_and_weights_in_a_file_of_their_own(made, tmp_path):
    graph = export.export(made.model, made.sample, tmp_path / "m.onnx", opset=18, external_data=True)
    assert graph.opset == 18
    assert (tmp_path / "m.onnx.data").exists()
    feeds = tiny_images.ENCODER.dummy(3, seed=9)
    ours, theirs = (session_run(open_session(path))(feeds)["logits"] for path in (tmp_path / "m.onnx", made.path))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.patches = nn.Conv2d(3, 16, 8, 8)

    def forward(self, pixel_values):
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        x = x + self.layer.self_attn(x, x, x, need_weights=False)[0]
        return {"logits": self.layer.norm1(x).mean(1)}


def test_additions_before_norms_are_sums_for_images_too(made, tmp_path):
    torch.manual_seed(0)
    export.export(Attention().eval(), made.sample, tmp_path / "m.onnx", opset=20, external_data=False)
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    assert [makers[node.input[0]] for node in nodes if node.op_type == "LayerNormalization"] == ["Sum"]
