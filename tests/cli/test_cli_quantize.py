"""`tledge quantize FILE.onnx`: int8 files of other tools, looked at and mended."""

import json

import numpy as np
import onnx
import overflowing
import pytest
from integer_graphs import model
from tiny_project import call

from tledge import overflow


@pytest.fixture
def clipping(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(model("QGemm", np.full((5, 60), 127, np.int8), weight_scale=np.ones(5)), path)
    return path


def test_a_copy_is_mended_and_told_of(clipping, tmp_path, capfd):
    before = clipping.read_bytes()
    done = call(capfd, "quantize", clipping)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{clipping}: 150 of 150 pairs of int8 weights can overflow, in 1 layer",
        "  product",
        f"{tmp_path / 'model_pairs.onnx'}: none of 150 pairs of int8 weights can overflow",
    ]
    assert clipping.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model_pairs.onnx"}


def test_of_seven_bits_into_a_file_of_ones_choice_as_json(clipping, tmp_path, capfd):
    out = tmp_path / "new" / "mended.onnx"
    done = call(capfd, "quantize", clipping, "--overflow-fix", "reduce_range", "--out", out, "--json")
    found = json.loads(done.out)
    assert (found["before"]["overflowing"], found["after"]["overflowing"], found["file"]) == (150, 0, str(out))
    codes = next(onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer if t.name == "w")
    assert np.abs(codes).max() == 64


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_not_replaced(kind, clipping, tmp_path, capfd):
    out = tmp_path / "mine"
    out.mkdir() if kind == "folder" else out.write_text("precious")
    done = call(capfd, "quantize", clipping, "--out", out)
    assert (done.code, done.err.count("\n")) == (9, 1)
    assert f"--out: {out} exists" in done.err
    assert out.is_dir() or out.read_text() == "precious"


def test_a_graph_inside_a_bundle_is_not_mended_there(clipping, tmp_path, capfd):
    (tmp_path / "bundle" / "onnx").mkdir(parents=True)
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    inside = clipping.rename(tmp_path / "bundle" / "onnx" / "model.onnx")
    done = call(capfd, "quantize", inside)
    assert (done.code, done.err.count("\n")) == (9, 1)
    assert "tledge run RUN --set quantize.overflow_fix=pairs" in done.err
    assert [path.name for path in inside.parent.iterdir()] == ["model.onnx"]
    assert call(capfd, "quantize", inside, "--out", tmp_path / "copy.onnx").code == 0


def test_what_is_safe_is_left_alone(clipping, tmp_path, capfd):
    call(capfd, "quantize", clipping, "--out", tmp_path / "safe.onnx")
    done = call(capfd, "quantize", tmp_path / "safe.onnx")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "nothing to mend"
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "safe.onnx"}


def test_none_says_what_that_means(clipping, capfd):
    done = call(capfd, "quantize", clipping, "--overflow-fix", "none")
    assert done.code == 0
    assert "it can answer otherwise on x86 processors without VNNI" in done.out


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--overflow-fix", "pair"), 9, "--overflow-fix: expected one of pairs, reduce_range, none, got 'pair'; did"),
        (("--scheme", "fp16"), 9, "--scheme: "),
        (("--set", "seed=1"), 9, "--set: "),
        (("--out", "CLIPPING"), 9, "--out: "),
    ],
)
def test_mistakes_are_one_line(options, code, told, clipping, capfd):
    before = clipping.read_bytes()
    done = call(capfd, "quantize", clipping, *(clipping if each == "CLIPPING" else each for each in options))
    assert clipping.read_bytes() == before
    assert done.code == code
    assert done.err.startswith(f"error: {told}")
    assert len(done.err.splitlines()) == 1


def test_what_is_no_graph_is_one_line(tmp_path, capfd):
    (tmp_path / "a.onnx").write_bytes(b"not at all")
    for name, told in (("a.onnx", "is no ONNX file, or damaged"), ("b.onnx", "cannot be read: No such file")):
        done = call(capfd, "quantize", tmp_path / name)
        assert done.code == 8
        assert told in done.err
        assert len(done.err.splitlines()) == 1


def test_inspect_tells_of_int8_that_can_overflow(tiny, tmp_path, capfd):
    done = call(capfd, "inspect", overflowing.write(tiny, tmp_path / "bundle", 65))
    assert done.code == 0
    assert "int8: 3 of 3 pairs of int8 weights can overflow, in 1 layer: answers differ on x86 without VNNI" in done.out
    assert "scored and timed on x86_64 AVX2 without VNNI" in done.out
    assert overflow.check(tmp_path / "bundle" / "onnx" / "model_int8.onnx").overflowing == 3
