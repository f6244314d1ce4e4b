"""Verification says by name what is wrong, and passes only what is whole."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tledge.bundle import checksum
from tledge.errors import InputError
from tledge.runtime import verify

NAMES = ["manifest", "files", "golden inputs", "opens fp32", "golden fp32", "opens int8", "golden int8"]


def failed(folder):
    """The details of the checks that did not pass, by name."""
    result = verify(folder)
    assert result.passed == all(check.passed for check in result.checks)
    assert all("\n" not in check.detail for check in result.checks)
    return {check.name: check.detail for check in result.checks if not check.passed}


def accept_hashes(folder):
    """Make the manifest agree with the files, so that only what is behind the hashes can be found."""
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    data["files"] = checksum.hashes(folder)
    path.write_text(json.dumps(data))


def test_whole_bundle_passes(tiny_bundle):
    result = verify(str(tiny_bundle))
    assert [check.name for check in result.checks] == NAMES
    assert result.passed, result


def test_provider_must_exist(tiny_bundle):
    with pytest.raises(InputError, match="'nowhere' is not known"):
        verify(tiny_bundle, provider="nowhere")


def test_no_bundle(tmp_path):
    assert list(failed(tmp_path)) == ["manifest"]
    assert "no bundle.json" in failed(tmp_path)["manifest"]


def test_one_flipped_byte(tiny_bundle):
    path = tiny_bundle / "onnx" / "model_int8.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert failed(tiny_bundle)["files"] == "changed: onnx/model_int8.onnx"


def test_missing_graph(tiny_bundle):
    (tiny_bundle / "onnx" / "model.onnx").unlink()
    found = failed(tiny_bundle)
    assert found["files"] == "missing: onnx/model.onnx"
    assert "is missing" in found["opens fp32"]


def test_graph_of_other_weights(tiny_bundle, tiny):
    tiny.save_graph(tiny_bundle / "onnx" / "model.onnx", tiny.weights[::-1].copy())
    accept_hashes(tiny_bundle)
    found = failed(tiny_bundle)
    assert list(found) == ["golden fp32"]
    assert "sentence 0 ('The ferry leaves" in found["golden fp32"]
    assert "logits is off by" in found["golden fp32"]


def test_tolerance_is_wider_for_a_quantized_graph(tiny_bundle, tiny):
    for name in ("model.onnx", "model_int8.onnx"):
        tiny.save_graph(tiny_bundle / "onnx" / name, tiny.weights * np.float32(1.02))
    accept_hashes(tiny_bundle)
    assert list(failed(tiny_bundle)) == ["golden fp32"]


def test_graph_that_gives_no_numbers(tiny_bundle, tiny):
    tiny.save_graph(tiny_bundle / "onnx" / "model_int8.onnx", np.full_like(tiny.weights, np.nan))
    accept_hashes(tiny_bundle)
    assert list(failed(tiny_bundle)) == ["golden int8"]


def test_graph_for_a_newer_onnxruntime(tiny_bundle, tiny):
    tiny.save_graph(tiny_bundle / "onnx" / "model_int8.onnx", tiny.weights, ir_version=99)
    accept_hashes(tiny_bundle)
    found = failed(tiny_bundle)
    assert list(found) == ["opens int8"]
    assert "needs a newer onnxruntime" in found["opens int8"]


def test_other_tokenizer(tiny_bundle):
    path = tiny_bundle / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase": true', '"lowercase": false').replace('"the"', '"thee"'))
    accept_hashes(tiny_bundle)
    found = failed(tiny_bundle)
    assert list(found) == ["golden inputs"]
    assert "input_ids differs" in found["golden inputs"]


def test_tokenizer_that_cannot_be_read(tiny_bundle):
    (tiny_bundle / "tokenizer.json").write_text("{}")
    assert "is not a tokenizer" in failed(tiny_bundle)["golden inputs"]


def test_damaged_golden_vectors(tiny_bundle):
    (tiny_bundle / "golden.safetensors").write_bytes(b"\x00" * 20)
    assert "golden.safetensors is damaged" in failed(tiny_bundle)["golden inputs"]
    (tiny_bundle / "golden.safetensors").unlink()
    assert "golden.safetensors is missing" in failed(tiny_bundle)["golden inputs"]


@pytest.mark.parametrize("keep", [lambda key: ".output.int8." not in key, lambda key: not key.startswith("3.")])
def test_golden_vectors_that_lack_something(tiny_bundle, keep):
    path = tiny_bundle / "golden.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if keep(key)}, path)
    accept_hashes(tiny_bundle)
    assert failed(tiny_bundle)


def test_golden_vectors_with_a_stranger(tiny_bundle):
    path = tiny_bundle / "golden.safetensors"
    save_file(load_file(path) | {"99.input.input_ids": np.zeros((1, 1), np.int64)}, path)
    accept_hashes(tiny_bundle)
    assert "99.input.input_ids" in failed(tiny_bundle)["golden inputs"]
