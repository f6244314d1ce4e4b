"""Writing a bundle: its layout, its manifest, and that a killed or failed write leaves nothing half-written."""

import dataclasses
import importlib
import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from tledge import artifacts, bundle, graph_file, inputs
from tledge.bundle import golden
from tledge.bundle.manifest import Manifest
from tledge.errors import BundleError
from tledge.inputs.text import SENTENCES
from tledge.runtime import Predictor

FILES = [
    "README.md",
    "bundle.json",
    "config.json",
    "golden.safetensors",
    "onnx/model.onnx",
    "onnx/model_int8.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
]


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_layout_and_manifest(tiny, tmp_path):
    written = tiny.write(tmp_path / "bundle")
    assert tree(tmp_path / "bundle") == FILES
    loaded = bundle.load(tmp_path / "bundle")
    assert loaded == written
    assert loaded.format_version == bundle.FORMAT_VERSION == 2
    assert (loaded.name, loaded.task, loaded.chosen) == ("tiny", "text_classification", "int8")
    assert loaded.labels == ("negative", "neutral", "positive")
    assert (loaded.input.kind, loaded.input.max_length) == ("text", 16)
    assert [spec.name for spec in loaded.input.tensors] == ["input_ids", "attention_mask"]
    assert [variant.graph.path for variant in loaded.variants] == ["onnx/model.onnx", "onnx/model_int8.onnx"]
    assert loaded.metrics == {"accuracy": 0.8}
    assert (loaded.opset, loaded.ir_version) == (17, 8)
    assert loaded.golden.tolerance == {"fp32": 1e-3, "int8": 5e-2}
    assert loaded.provenance.rows == {"train": 3}
    assert sorted(loaded.files) == [name for name in FILES if name != "bundle.json"]
    assert bundle.check_files(tmp_path / "bundle") == []
    assert list(tmp_path.glob(".*")) == []


def test_tolerances_are_those_of_the_specification():
    page = (Path(__file__).parents[2] / "docs" / "bundle-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`(\w+)`|any other) \| (0\.\d+) \|", page, re.MULTILINE)
    assert {name for name, _ in rows} >= {"", "fp32", "int8_dynamic", "int4_weight_only"}
    assert {name: golden.tolerance(name) for name, _ in rows} == {name: float(share) for name, share in rows}


def test_manifest_survives_json(tiny, tmp_path):
    written = tiny.write(tmp_path / "bundle")
    assert artifacts.from_dict(Manifest, json.loads(json.dumps(artifacts.to_dict(written)))) == written


def test_chosen_alone(tiny, tmp_path):
    written = tiny.write(tmp_path / "bundle", only_chosen=True)
    assert tree(tmp_path / "bundle") == [name for name in FILES if name != "onnx/model.onnx"]
    assert [variant.name for variant in written.variants] == ["int8"]
    config = artifacts.read_json(tmp_path / "bundle" / "config.json")
    assert config["transformers.js_config"] == {"dtype": "int8"}


@pytest.mark.parametrize(
    ("file", "dtype"), [("model", "fp32"), ("model_q4", "q4"), ("model_uint8", "uint8"), ("model_quantized", "q8")]
)
def test_the_chosen_graph_has_the_name_that_transformers_js_knows(file, dtype, tiny, tmp_path):
    [chosen, *_] = (each for each, _ in tiny.variants if each.chosen)
    graph = dataclasses.replace(chosen.graph, path=f"{file}.onnx")
    assert importlib.import_module("tledge.bundle.write")._dtype(dataclasses.replace(chosen, graph=graph)) == dtype


def test_local_paths_are_not_shipped(tiny, tmp_path):
    tiny.write(tmp_path / "bundle")
    for path in (tmp_path / "bundle").glob("*.json"):
        assert "somebody" not in path.read_text(), path.name


def test_transformers_reads_the_folder(tiny, tmp_path):
    from transformers import AutoConfig, AutoTokenizer

    tiny.write(tmp_path / "bundle")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "bundle")("the train is late")
    assert tokens["input_ids"] == [2, 12, 6, 13, 7, 3]
    assert AutoConfig.from_pretrained(tmp_path / "bundle").id2label[2] == "positive"


@pytest.mark.parametrize("location", ["model.onnx.data", "any name.bin"])
def test_weights_beside_the_graph_come_along(location, tiny, tmp_path):
    variant, file = tiny.variants[0]
    onnx.save(onnx.load(file), file, save_as_external_data=True, location=location, size_threshold=100)
    assert (tiny.graphs / location).exists()
    graph = dataclasses.replace(variant.graph, size_bytes=graph_file.size_bytes(file))
    variants = [(dataclasses.replace(variant, chosen=True, graph=graph), file)]
    tiny.write(tmp_path / "bundle", variants=variants)
    weights = tmp_path / "bundle" / "onnx" / location
    assert graph.size_bytes == (weights.parent / file.name).stat().st_size + weights.stat().st_size
    assert bundle.check_files(tmp_path / "bundle") == []
    assert Predictor.load(tmp_path / "bundle").predict(["the train is late"])
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(BundleError, match=f"has {graph.size_bytes - 4:,} bytes, expected {graph.size_bytes:,}"):
        Predictor.load(tmp_path / "bundle")
    (tiny.graphs / location).unlink()
    with pytest.raises(BundleError, match=f"{file.name} has weights in '{location}', which is not in"):
        tiny.write(tmp_path / "other", variants=variants)


def test_older_bundle_is_replaced_and_foreign_files_stay(tiny, tmp_path):
    folder = tmp_path / "bundle"
    tiny.write(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "model.sig").write_text("of the older bundle")
    tiny.write(folder, only_chosen=True, readme="# Second\n")
    assert not {"onnx/model.onnx", "model.sig"} & set(tree(folder))
    assert (folder / "README.md").read_text() == "# Second\n"
    assert bundle.check_files(folder) == ["extra: notes.txt"]


def test_damaged_older_bundle_is_replaced(tiny, tmp_path):
    tiny.write(tmp_path / "bundle")
    (tmp_path / "bundle" / "bundle.json").write_text("{")
    written = tiny.write(tmp_path / "bundle")
    assert bundle.load(tmp_path / "bundle") == written
    assert bundle.check_files(tmp_path / "bundle") == []


def test_failed_write_leaves_nothing(tiny, tmp_path):
    def broken(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.write(tmp_path / "bundle", open_run=broken)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_failed_write_keeps_the_older_bundle(tiny, tmp_path):
    tiny.write(tmp_path / "bundle")
    before = tree(tmp_path / "bundle")
    with pytest.raises(BundleError, match="golden"):
        tiny.write(tmp_path / "bundle", reference=lambda tensors: {"logits": tiny.reference(tensors)["logits"] + 1})
    assert tree(tmp_path / "bundle") == before
    assert bundle.check_files(tmp_path / "bundle") == []


def test_killed_move_leaves_no_bundle(tiny, tmp_path, monkeypatch):
    """A write that dies while it replaces files must not look like a bundle."""
    folder = tmp_path / "bundle"
    tiny.write(folder)
    replace = os.replace

    def dies(source, target):
        if source.name == "model.onnx":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        tiny.write(folder)
    monkeypatch.undo()
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        bundle.load(folder)
    tiny.write(folder)
    assert bundle.check_files(folder) == []


def test_left_over_of_a_killed_write_is_cleared(tiny, tmp_path):
    left = tmp_path / ".bundle.partial" / "onnx"
    left.mkdir(parents=True)
    (left / "model_q4.onnx").write_text("half")
    tiny.write(tmp_path / "bundle")
    assert tree(tmp_path / "bundle") == FILES


def test_checkpoint_without_tokenizer(tiny, tmp_path):
    (tiny.checkpoint / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"has no tokenizer\.json"):
        tiny.write(tmp_path / "bundle")


def test_readme_can_be_replaced(tiny, tmp_path):
    tiny.write(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.sig").write_text("of the older card")
    written = bundle.replace_readme(tmp_path / "bundle", "# Measured\n")
    assert bundle.load(tmp_path / "bundle") == written
    assert bundle.check_files(tmp_path / "bundle") == []
    assert (tmp_path / "bundle" / "README.md").read_text() == "# Measured\n"
    assert not (tmp_path / "bundle" / "model.sig").exists()


def test_golden_vectors_hold_only_our_sentences(tiny, tmp_path):
    written = tiny.write(tmp_path / "bundle")
    assert written.golden.examples == SENTENCES
    assert {"", "x"} < set(SENTENCES)
    tensors = load_file(tmp_path / "bundle" / "golden.safetensors")
    assert tensors["0.input.input_ids"].shape[0] == 1
    assert tensors["batch.input.input_ids"].shape == (len(SENTENCES), 16)
    assert tensors["batch.output.int8.logits"].shape == (len(SENTENCES), 3)
    np.testing.assert_allclose(tensors["0.output.torch.logits"], tensors["0.output.fp32.logits"], atol=1e-6)


def test_sentence_that_the_tokenizer_refuses_is_left_out(tiny, tmp_path):
    path = tiny.checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["post_processor"] = None
    path.write_text(json.dumps(tokenizer))
    written = tiny.write(tmp_path / "bundle")
    assert written.golden.examples == tuple(sentence for sentence in SENTENCES if sentence)


def test_variant_that_gives_no_numbers_is_not_bundled(tiny, tmp_path):
    tiny.save_graph(tiny.graphs / "model_int8.onnx", np.full_like(tiny.weights, np.nan))
    with pytest.raises(BundleError, match=r"variant int8 fails its own golden vectors: sentence 0 \('The ferry"):
        tiny.write(tmp_path / "bundle")


@pytest.mark.parametrize(("off", "share"), [(0.01, 5e-2), (0.18, 0.18), (3.0, 0.5)])
def test_a_quantized_graph_may_be_off_elsewhere_by_what_quantizing_cost(off, share, tiny, tmp_path):
    """One flipped rounding carries as far as the network lets it, which its distance from fp32 tells."""
    encoder = inputs.load("text", tiny.checkpoint)

    def fp32(tensors):
        return {"logits": np.tile(np.float32([1, -1, 0]), (len(tensors["input_ids"]), 1))}

    def int8(tensors):
        return {"logits": fp32(tensors)["logits"] - np.float32([0, 0, off])}

    path = tmp_path / "golden.safetensors"
    made = golden.make(path, encoder, {"fp32": fp32, "int8": int8}, None, {"fp32": "fp32", "int8": "static"})
    alone = golden.make(path, encoder, {"int8": int8}, fp32, {"int8": "static"})
    assert alone.tolerance["int8"] == pytest.approx(made.tolerance["int8"])
    assert made.tolerance["fp32"] == 1e-3
    largest = max(1.0, off)
    assert made.tolerance["int8"] == pytest.approx(max(min(off / largest, 0.5), 5e-2))
    assert made.tolerance["int8"] == pytest.approx(share)
