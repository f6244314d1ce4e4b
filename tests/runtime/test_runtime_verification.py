"""Verification says by name what is wrong, and passes only what is whole."""

import json

import numpy as np
import overflowing
import pytest
import sealing
from safetensors.numpy import load_file, save_file

from tledge import processor
from tledge.artifacts import Overflow
from tledge.bundle import checksum
from tledge.errors import InputError
from tledge.runtime import verify

NAMES = [
    *("manifest", "files", "golden inputs", "processor"),
    *("opens fp32", "golden fp32", "opens int8", "golden int8"),
]


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
    sealing.write(path, data)


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


def details(folder):
    return {check.name: (check.passed, check.detail) for check in verify(folder).checks}


def test_int8_that_cannot_overflow_passes_everywhere(tiny, tmp_path, monkeypatch):
    folder = overflowing.write(tiny, tmp_path / "bundle", 64)
    for here in (overflowing.AVX2, overflowing.VNNI):
        monkeypatch.setattr(processor, "here", lambda here=here: here)
        assert details(folder)["overflow int8"] == (True, "none of 3 pairs of int8 weights can overflow")


def test_int8_that_can_overflow_is_named_where_it_was_measured_so_or_does_not_matter(tiny, tmp_path, monkeypatch):
    folder = overflowing.write(tiny, tmp_path / "bundle", 65)
    for here in (overflowing.AVX2, overflowing.VNNI):
        monkeypatch.setattr(processor, "here", lambda here=here: here)
        passed, detail = details(folder)["overflow int8"]
        assert passed
        assert detail == (
            "3 of 3 pairs of int8 weights can overflow, in 1 layer: answers differ on x86 without VNNI; "
            "mend a run with: tledge run RUN --set quantize.overflow_fix=pairs, and a graph of another "
            "tool with: tledge quantize FILE.onnx --overflow-fix pairs"
        )


@pytest.mark.parametrize("measured_on", [overflowing.VNNI, None])
def test_int8_that_overflows_here_and_was_not_measured_so_is_refused(tiny, tmp_path, monkeypatch, measured_on):
    folder = overflowing.write(tiny, tmp_path / "bundle", 65, processor=measured_on)
    monkeypatch.setattr(processor, "here", lambda: overflowing.AVX2)
    assert list(failed(folder)) == ["overflow int8"]
    assert "this processor adds in 16 bits, and the figures are not from such a one" in failed(folder)["overflow int8"]


def test_a_manifest_that_says_otherwise_is_refused(tiny, tmp_path):
    folder = overflowing.write(tiny, tmp_path / "bundle", 65, overflow=Overflow(1, 3))
    assert failed(folder)["overflow int8"] == (
        "3 of 3 pairs of int8 weights can overflow, in 1 layer, but the manifest says: "
        "none of 3 pairs of int8 weights can overflow"
    )


@pytest.mark.parametrize(
    ("here", "told"),
    [
        (overflowing.AVX2, "scored and timed on x86_64 AVX2 without VNNI, as this machine is"),
        (
            overflowing.VNNI,
            "scored and timed on x86_64 AVX2 without VNNI; this machine is x86_64 AVX512-VNNI: times and the best "
            "variant may be others here",
        ),
    ],
)
def test_the_kind_of_processor_is_told(tiny, tmp_path, monkeypatch, here, told):
    folder = overflowing.write(tiny, tmp_path / "bundle", 1)
    monkeypatch.setattr(processor, "here", lambda: here)
    assert details(folder)["processor"] == (True, told)


def test_an_older_bundle_does_not_say_where_it_was_measured(tiny_bundle):
    passed, detail = details(tiny_bundle)["processor"]
    assert passed
    assert detail.endswith("where the variants were scored and timed is not written down")
