"""Bundles with hashes that hold, made to fool a device: each is refused in one line."""

import json
import os
import struct

import numpy as np
import onnx
import pytest
import sealing
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from tledge import bundle
from tledge.artifacts import read_object
from tledge.bench import targets
from tledge.bundle import checksum
from tledge.errors import BundleError, TledgeError
from tledge.runtime import Predictor, verify


def seal(folder):
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    sealing.write(path, data | {"files": checksum.hashes(folder)})


def edit(folder, keys, value):
    path = folder / "bundle.json"
    data = at = json.loads(path.read_text())
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    sealing.write(path, data)


def settings(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    seal(folder)


def refused(folder, told="", *, predict=True):
    """Neither `verify` nor `Predictor` takes it, and what they say is a line."""
    failed = [check.detail for check in verify(folder).checks if not check.passed]
    assert failed
    assert all("\n" not in detail and len(detail) < 2000 for detail in failed)
    assert told in "; ".join(failed)
    if predict:
        value = np.zeros((8, 8, 3), np.uint8) if (folder / "preprocessor_config.json").exists() else "The train is late"
        with pytest.raises(TledgeError) as error:
            Predictor.load(folder).predict(value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("name",), "two\nlines"),
        (("name",), "x" * 300),
        (("task",), "image_classification"),
        (("task",), "nonsense"),
        (("labels",), ["one", 2, "three"]),
        (("input", "max_length"), "16"),
        (("variants", 1, "name"), "\x1b[31m"),
        (("variants", 1, "name"), "fp32"),
        (("variants", 1, "chosen"), False),
        (("variants", 1, "graph", "size_bytes"), 2**63),
        (("variants", 1, "graph", "size_bytes"), 10**400),
        (("variants", 1, "graph", "size_bytes"), True),
        (("variants", 1, "graph", "path"), "onnx/\0"),
        (("variants", 1, "graph", "path"), None),
        (("variants", 1, "graph", "inputs"), [{"name": "x", "dtype": "int64", "shape": 3}]),
        (("variants", 1, "test_metrics"), {"accuracy": [[]]}),
        (("variants", 1, "test_metrics"), {"accuracy": float("inf")}),
        (("golden", "images"), 10**9),
        (("golden", "images"), -1),
        (("golden", "continued"), 99),
        (("golden", "values"), []),
        (("golden", "values"), "text"),
        (("golden", "tolerance"), {"fp32": "wide", "int8": None}),
        (("golden", "tolerance"), {"fp32": 1e300, "int8": 1e300}),
        (("provenance",), []),
        (("generation",), {"context_length": 9, "eos_token_ids": [], "bos_token_id": None, "pad_token_id": 0}),
    ],
)
def test_a_manifest_of_wrong_kinds(keys, value, tiny_bundle):
    edit(tiny_bundle, keys, value)
    refused(tiny_bundle, predict=False)
    with pytest.raises(BundleError) as error:
        Predictor.load(tiny_bundle)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["bundle.json", "tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize(
    ("added", "told"),
    [
        (b'"deep": ' + b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'"deep": ' + b"[" * 200 + b"]" * 200, "nested too deep"),
        (b'"n": NaN', "NaN is no number in JSON"),
        (b'"twice": 1, "twice": 2', "has the key 'twice' twice"),
        (b'"n": ' + b"9" * 5000, "digits"),
        (b'"\xe9": 1', "can't decode"),
    ],
)
def test_json_that_readers_take_differently_or_not_at_all(name, added, told, tiny_bundle):
    path = tiny_bundle / name
    path.write_bytes(path.read_bytes().replace(b"{", b"{" + added + b",", 1))
    with pytest.raises((BundleError, ValueError), match=told):
        read_object(path)
    refused(tiny_bundle, told, predict=name != "config.json")


def test_json_with_a_mark_or_too_large_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    with pytest.raises(ValueError, match="BOM"):
        read_object(path)
    path.write_bytes(b'{"a": [' + b"[]," * 4_000_000 + b"[]]}")
    with pytest.raises(ValueError, match="more than 4,000,000 values"):
        read_object(path)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ValueError, match=r"it is 1,073,741,824 bytes; expected at most"):
        read_object(path)


@pytest.mark.parametrize("name", ["bundle.json", "tokenizer.json", "golden.safetensors", "onnx/model_int8.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle", "outside"])
def test_what_is_no_file_of_the_bundle_is_not_opened(name, kind, tiny_bundle, tmp_path):
    path = tiny_bundle / name
    content = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "outside":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    refused(tiny_bundle, predict=name != "golden.safetensors")


def test_a_folder_of_the_hubs_cache_is_read(tiny_bundle, tmp_path):
    cached = tmp_path / "cache" / "snapshots" / "0123"
    (cached / "onnx").mkdir(parents=True)
    (tmp_path / "cache" / "blobs").mkdir()
    for i, path in enumerate(path for path in tiny_bundle.rglob("*") if path.is_file()):
        blob = tmp_path / "cache" / "blobs" / str(i)
        blob.write_bytes(path.read_bytes())
        (cached / path.relative_to(tiny_bundle)).symlink_to(blob)
    assert verify(cached).passed


@pytest.mark.parametrize(
    "changes",
    [
        {"model_max_length": "seven"},
        {"model_max_length": -1},
        {"model_max_length": 1e12},
        {"model_input_names": "input_ids"},
        {"model_input_names": [["input_ids"]]},
        {"pad_token": 5},
        {"pad_token": {"content": ["a"]}},
        {"pad_token_type_id": 2**80},
        {"padding_side": []},
        {"truncation_side": "up"},
        {"split_special_tokens": "yes"},
    ],
)
def test_settings_of_a_tokenizer_of_wrong_kinds(changes, tiny_bundle):
    settings(tiny_bundle, "tokenizer_config.json", **changes)
    refused(tiny_bundle, "tokenizer_config.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"truncation": "yes"},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[NO]", "type_id": 0}}],
                            "pair": [], "special_tokens": {}}},
    ],
)  # fmt: skip
def test_tokenizers_that_make_the_library_panic(changes, tiny_bundle, capfd):
    settings(tiny_bundle, "tokenizer.json", **changes)
    refused(tiny_bundle, "tokenizer")
    assert capfd.readouterr() == ("", "")


def ends_in(folder, *nodes, kind=TensorProto.FLOAT, shape=("batch", 3), values=()):
    """Let both graphs go on from their logits."""
    for name in ("model.onnx", "model_int8.onnx"):
        model = onnx.load(folder / "onnx" / name)
        model.graph.node[-1].output[0] = "before"
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(values)
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info(nodes[-1].output[0], kind, shape))
        onnx.save(model, folder / "onnx" / name)
    seal(folder)


NAN = numpy_helper.from_array(np.float32([np.nan]), "nan")
AXIS = numpy_helper.from_array(np.array([0]), "first")


@pytest.mark.parametrize(
    ("node", "changes"),
    [
        (helper.make_node("Identity", ["before"], ["other"]), {}),
        (helper.make_node("Mul", ["before", "nan"], ["logits"]), {"values": [NAN]}),
        (helper.make_node("Unsqueeze", ["before", "first"], ["logits"]), {"values": [AXIS], "shape": ("a", "b", 3)}),
        (helper.make_node("Concat", ["before", "before"], ["logits"], axis=1), {"shape": ("batch", 6)}),
        (helper.make_node("Concat", ["before", "before"], ["logits"], axis=0), {"shape": ("rows", 3)}),
        (helper.make_node("ReduceSum", ["before"], ["logits"], keepdims=0), {"shape": ()}),
        (helper.make_node("Cast", ["before"], ["logits"], to=TensorProto.INT64), {"kind": TensorProto.INT64}),
        (helper.make_node("Cast", ["before"], ["logits"], to=TensorProto.STRING), {"kind": TensorProto.STRING}),
    ],
)
def test_graphs_that_give_no_answers(node, changes, tiny_bundle):
    ends_in(tiny_bundle, node, **changes)
    refused(tiny_bundle)


def test_a_graph_of_another_type_than_the_manifest_tells(tiny_bundle):
    ends_in(tiny_bundle, helper.make_node("Cast", ["before"], ["logits"], to=11), kind=TensorProto.DOUBLE)
    refused(tiny_bundle, "the graph gives 'logits' float64, but the manifest says 'logits' float32", predict=False)


@pytest.mark.parametrize("location", ["../../outside", "/etc/passwd", "missing"])
def test_weights_elsewhere_are_not_read(location, tiny_bundle):
    path = tiny_bundle / "onnx" / "model_int8.onnx"
    model = onnx.load(path)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    seal(tiny_bundle)
    refused(tiny_bundle, "has weights in")


@pytest.mark.parametrize("task", ["text_regression", "causal_lm"])
def test_labels_of_another_task(task, tiny_bundle):
    edit(tiny_bundle, ("task",), task)
    edit(tiny_bundle, ("problem_type",), "regression" if task == "text_regression" else "causal_lm")
    refused(tiny_bundle, "the bundle")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_more_or_fewer_labels_than_the_graph_answers(count, tiny_bundle):
    edit(tiny_bundle, ("outputs",), [])
    edit(tiny_bundle, ("labels",), [f"label {i}" for i in range(count)])
    refused(tiny_bundle, "the graph must give logits")


@pytest.mark.parametrize("name", ["two\nlines", "x" * 100_000])
def test_golden_tensors_of_strange_names(name, tiny_bundle):
    path = tiny_bundle / "golden.safetensors"
    save_file(load_file(path) | {f"0.output.fp32.{name}": np.zeros(1)}, path)
    seal(tiny_bundle)
    refused(tiny_bundle, "belongs to none of the bundle's examples", predict=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, t: t.astype(np.int64) if ".output." in name else t,
        lambda name, t: np.full_like(t, np.inf) if ".output." in name else t,
        lambda name, t: t[None] if ".output." in name else t,
        lambda name, t: t[0] if ".input." in name else t,
        lambda name, t: t[:0],
    ],
)
@pytest.mark.parametrize("kind", ["tiny_bundle", "tiny_image_bundle"])
def test_golden_vectors_of_other_shapes_and_numbers(change, kind, request):
    folder = request.getfixturevalue(kind)
    path = folder / "golden.safetensors"
    save_file({name: np.ascontiguousarray(change(name, t)) for name, t in load_file(path).items()}, path)
    seal(folder)
    refused(folder, predict=False)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "I64"])
def test_golden_vectors_of_strange_types_and_sizes(dtype, tiny_bundle):
    size = {"BF16": 4, "F8_E4M3": 8, "I64": 1 << 60}[dtype]
    header = json.dumps({"0.input.input_ids": {"dtype": dtype, "shape": [size], "data_offsets": [0, 8]}}).encode()
    (tiny_bundle / "golden.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    seal(tiny_bundle)
    refused(tiny_bundle, "golden.safetensors is damaged", predict=False)


def test_golden_vectors_of_a_gigabyte_are_not_read(tiny_bundle):
    with (tiny_bundle / "golden.safetensors").open("r+b") as file:
        file.truncate(1 << 30)
    refused(tiny_bundle, "it is 1,073,741,824 bytes", predict=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_size": {"height": 0, "width": 16}},
        {"crop_size": {"height": -1, "width": 16}},
        {"crop_size": {"height": 10**9, "width": 10**9}},
        {"size": {"shortest_edge": 10**9}},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": 10**400},
        {"image_mean": [1e300] * 3},
        {"image_std": [1e-300] * 3},
        {"rescale_factor": 1e300},
        {"resample": True},
        {"two\nlines": "x" * 10_000},
        {"image_processor_type": ["x"]},
    ],
)
def test_absurd_settings_of_images(changes, tiny_image_bundle):
    settings(tiny_image_bundle, "preprocessor_config.json", **changes)
    refused(tiny_image_bundle, "preprocessor_config.json")


@pytest.mark.parametrize(("size", "told"), [(None, "is missing"), (5, "has 5 bytes, expected")])
def test_a_graph_of_another_size_is_not_opened(size, told, tiny_bundle, tiny_image_bundle):
    for folder in (tiny_bundle, tiny_image_bundle):
        manifest = bundle.load(folder)
        path = folder / manifest.variant(manifest.chosen).graph.path
        path.write_bytes(path.read_bytes()[:size] if size else b"")
        if size is None:
            path.unlink()
        refused(folder, predict=False)
        with pytest.raises(BundleError, match=told):
            Predictor.load(folder)
        with pytest.raises(BundleError, match=told):
            targets.resolve(folder)


def test_a_whole_bundle_is_taken(tiny_bundle, tiny_image_bundle):
    for folder in (tiny_bundle, tiny_image_bundle):
        seal(folder)
        assert verify(folder).passed
        bundle.load(folder)
