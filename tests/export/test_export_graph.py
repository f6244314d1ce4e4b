import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import families
import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import numpy_helper

from tledge import export
from tledge.errors import ExportError
from tledge.export import graph as graphs
from tledge.export import text
from tledge.runtime import open_session, session_run


def export_bert(pretrained, folder, *, opset=20, external_data=False):
    model, backbone = families.classifier(pretrained("bert"))
    encoder = families.encoder(model, backbone, folder / "tokenizer")
    sample = encoder.dummy(2, 8)
    sample["attention_mask"][0, -3:] = 0
    return export.export(model, sample, folder / "model.onnx", opset=opset, external_data=external_data)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_inputs_and_outputs_have_the_names_of_the_ecosystem(family, exported):
    made = exported(family)
    stored = onnx.load(made.path).graph
    names = {"input_ids", "attention_mask"} | ({"token_type_ids"} if family == "bert" else set())
    for values in (stored.input, made.graph.inputs):
        assert {value.name for value in values} == names
    assert [value.name for value in stored.output] == ["logits"]
    assert {spec.shape for spec in made.graph.inputs} == {("batch_size", "sequence_length")}
    assert {spec.dtype for spec in made.graph.inputs} == {"int64"}
    assert [(spec.dtype, spec.shape) for spec in made.graph.outputs] == [("float32", ("batch_size", 2))]
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in stored.input]
    assert dims == [["batch_size", "sequence_length"]] * len(names)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_graph_is_one_checked_file_of_the_stated_size_and_versions(family, exported):
    made = exported(family)
    stored = onnx.load(made.path)
    onnx.checker.check_model(stored)
    assert [p.name for p in made.path.parent.glob("*.onnx*")] == ["model.onnx"]
    assert made.graph.path == "model.onnx"
    assert made.graph.size_bytes == made.path.stat().st_size
    assert made.graph.opset == 20 == next(o.version for o in stored.opset_import if o.domain == "")
    assert made.graph.ir_version == stored.ir_version == 10
    assert stored.producer_name == "tledge"


@pytest.mark.parametrize("family", families.FAMILIES)
def test_no_path_of_this_machine_is_in_the_file(family, exported):
    raw = exported(family).path.read_bytes()
    for place in (Path.cwd(), tempfile.gettempdir(), Path.home(), "site-packages", ".py"):
        assert str(place).encode() not in raw


@pytest.mark.parametrize("family", families.FAMILIES)
def test_additions_before_norms_are_sums(family, exported):
    nodes = onnx.load(exported(family).path).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    norms = [makers.get(node.input[0]) for node in nodes if node.op_type == "LayerNormalization"]
    assert len(norms) >= 6
    assert set(norms) == {"Sum"}


def test_another_opset_and_weights_in_a_file_of_their_own(pretrained, exported, tmp_path):
    graph = export_bert(pretrained, tmp_path, opset=18, external_data=True)
    data = tmp_path / "model.onnx.data"
    assert graph.opset == 18
    assert data.stat().st_size > (tmp_path / "model.onnx").stat().st_size / 4
    assert graph.size_bytes == data.stat().st_size + (tmp_path / "model.onnx").stat().st_size
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    feeds = exported("bert").encoder.encode(families.TEXTS)
    ours, theirs = (session_run(open_session(p))(feeds) for p in (moved / "model.onnx", exported("bert").path))
    np.testing.assert_allclose(ours["logits"], theirs["logits"], atol=1e-5)


def test_an_opset_that_was_not_written_is_an_error(exported, monkeypatch, tmp_path):
    class Fallback:
        """The exporter stays at another opset where it cannot convert, and only logs it."""

        def export(self, *_):
            return SimpleNamespace(program=onnx_ir.load(exported("bert").path))

    monkeypatch.setattr(text, "OnnxExporter", Fallback)
    made = exported("bert")
    with pytest.raises(ExportError, match=r"^export\.opset: got 99, but the exporter wrote 20; "):
        export.export(made.model, made.encoder.dummy(2, 4), tmp_path / "m.onnx", opset=99, external_data=False)
    assert not (tmp_path / "m.onnx").exists()


def test_weights_beyond_one_file_ask_for_two(exported, tmp_path, monkeypatch):
    program = onnx_ir.load(exported("bert").path)
    monkeypatch.setattr(graphs, "SINGLE_FILE_LIMIT", 1000)
    with pytest.raises(ExportError, match=r"more than one file can hold: set export\.external_data: true"):
        graphs.save(program, tmp_path / "model.onnx", external_data=False)
    graphs.save(program, tmp_path / "model.onnx", external_data=True)
    assert (tmp_path / "model.onnx.data").exists()


def test_a_model_that_cannot_be_translated_is_one_line(exported, monkeypatch, tmp_path):
    class Broken:
        def export(self, *_):
            raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(text, "OnnxExporter", Broken)
    made = exported("bert")
    with pytest.raises(ExportError) as caught:
        export.export(made.model, made.encoder.dummy(2, 4), tmp_path / "m.onnx", opset=20, external_data=False)
    assert str(caught.value).startswith(
        "export: TextClassifier cannot be translated to ONNX: RuntimeError: first line (the whole story"
    )
    assert "\n" not in str(caught.value)


def test_the_weights_are_those_of_the_model(exported):
    made = exported("bert")
    stored = [numpy_helper.to_array(t) for t in onnx.load(made.path).graph.initializer]
    table = made.model.backbone.embeddings.word_embeddings.weight.detach().numpy()
    assert any(array.shape == table.shape and np.array_equal(array, table) for array in stored)
