"""Every scheme on the graphs of decoders: what they take and give, their sizes, and what they compute."""

import numpy as np
import onnx
import onnxruntime
import pytest
from decoder_graph import decoder
from onnx import numpy_helper

from tledge import plugins
from tledge.quantize import run as quantizing
from tledge.quantize.schemes import fp16, int8_dynamic
from tledge.runtime import open_session, session_run

SCHEMES = "tledge.quantize.schemes"
OFF = {"int8_dynamic": 0.08, "int8_weight_only": 0.08, "int4_weight_only": 0.5, "fp16": 0.003}
"""How far the logits of random weights may be off, as root mean square by their own spread."""
IDS = np.random.default_rng(0).integers(0, 320, (2, 20))


def feeds(graph, ids, past=None, *, first_position=0):
    n_past = 0 if past is None else past[0].shape[2]
    empty = [np.zeros((len(ids), v.shape[1], 0, v.shape[3]), np.float32) for v in graph.inputs[3:]]
    positions = np.arange(ids.shape[1]) + n_past + first_position
    return {
        "input_ids": ids,
        "attention_mask": np.ones((len(ids), n_past + ids.shape[1]), np.int64),
        "position_ids": np.broadcast_to(positions, ids.shape).copy(),
        **dict(zip([v.name for v in graph.inputs[3:]], past or empty, strict=True)),
    }


def relative(got, expected):
    return float(np.sqrt(np.mean((got - expected) ** 2)) / expected.std())


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    """`variant(kind, scheme)` is a decoder with its variant's `Path` and run."""
    made = {}

    def make(kind, scheme):
        if (kind, scheme) not in made:
            source = decoder(kind)
            target = tmp_path_factory.mktemp(kind) / "variant.onnx"
            plugins.load(SCHEMES, scheme).apply(source.path, target)
            made[kind, scheme] = source, target, session_run(open_session(target, threads=1))
        return made[kind, scheme]

    return make


@pytest.mark.parametrize("scheme", OFF)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_variant_takes_and_gives_what_fp32_does_and_computes_nearly_the_same(kind, scheme, variant):
    source, target, run = variant(kind, scheme)
    made = quantizing.describe(target)
    assert (made.inputs, made.outputs) == (source.graph.inputs, source.graph.outputs)
    assert (made.opset, made.ir_version) == (20, 10)
    given = feeds(source.graph, IDS)
    expected, got = source.run(given), run(given)
    assert 0 < relative(got["logits"], expected["logits"]) < OFF[scheme]
    past = [expected[v.name] for v in source.graph.outputs[1:]]
    given = feeds(source.graph, IDS[:, :3], past)
    expected, got = source.run(given), run(given)
    assert 0 < relative(got["logits"], expected["logits"]) < OFF[scheme]
    for value in source.graph.outputs[1:]:
        assert got[value.name].shape == expected[value.name].shape
        np.testing.assert_allclose(got[value.name][:, :, :20], expected[value.name][:, :, :20], atol=0.02)


@pytest.mark.parametrize(
    ("scheme", "bytes_a_weight"),
    [("int8_dynamic", 1), ("int8_weight_only", 1), ("int4_weight_only", 0.5), ("fp16", 2)],
)
def test_tied_weights_are_stored_once(scheme, bytes_a_weight, variant):
    """The bytes of tensors are those of the weights, with scales and what is small: no second table (10 kB or more)."""
    source, target, _ = variant("gpt2", scheme)
    sizes = {t.name: numpy_helper.to_array(t).nbytes for t in onnx.load(target).graph.initializer}
    matrices = [p.numel() for p in source.module.parameters() if p.ndim == 2]
    blocks = sum(matrices) / 32
    scales = {"int8_dynamic": 4 * 1000, "int8_weight_only": 5 * blocks, "int4_weight_only": 4.5 * blocks}.get(scheme, 0)
    vectors = 4 * sum(p.numel() for p in source.module.parameters() if p.ndim == 1)
    assert sum(sizes.values()) == pytest.approx(sum(matrices) * bytes_a_weight + scales + vectors, abs=4000)


def test_int8_gives_each_row_of_a_table_its_own_scale(variant):
    source, target, _ = variant("gpt2", "int8_dynamic")
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
    for name, table in (
        ("lm_head", source.module.transformer.wte.weight),
        ("transformer.wpe", source.module.transformer.wpe.weight),
    ):
        codes, scales = stored[f"module.{name}.weight_quantized"], stored[f"module.{name}.weight_scale"]
        assert codes.dtype == np.int8 and scales.shape == (len(table),)
        off = np.abs(codes * scales[:, None] - table.detach().numpy())
        # Where two neighbours would overflow in the product, both are moved; and each row is as fine as it can be.
        assert np.mean(off <= scales[:, None] * 0.51) > 0.97
        assert (np.abs(codes).max(1) >= 60).all()
        assert len(np.unique(scales)) > 0.9 * len(scales)


def test_onnxruntime_computes_int8_products_as_one_operator_each(variant, tmp_path):
    """The tied output layer too, though its weights pass a `Transpose` in the file."""
    _, target, _ = variant("gpt2", "int8_dynamic")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(target, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("DynamicQuantizeMatMul") == 9
    assert "MatMulInteger" not in kinds


def test_int8_takes_a_table_without_values(tmp_path):
    """A row of zeros has no scale of its own; it stays zero and gives no NaN."""
    source = decoder("gpt2")
    model = onnx.load(source.path)
    table = next(t for t in model.graph.initializer if t.name == "module.lm_head.weight")
    array = numpy_helper.to_array(table).copy()
    array[5] = 0
    table.CopyFrom(numpy_helper.from_array(array, table.name))
    onnx.save(model, tmp_path / "model.onnx")
    int8_dynamic.apply(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    logits = session_run(open_session(tmp_path / "int8.onnx"))(feeds(source.graph, np.array([[5, 6]])))["logits"]
    assert np.isfinite(logits).all()
    assert (logits[..., 5] == 0).all()


def test_fp16_computes_rotary_angles_of_far_positions(variant):
    """Attention depends on distances alone, so that all positions may move; half precision does not count to 5000."""
    source, _, run = variant("llama", "fp16")
    near, far = (run(feeds(source.graph, IDS, first_position=first))["logits"] for first in (0, 5000))
    assert relative(far, near) < 0.01
    exact = source.run(feeds(source.graph, IDS, first_position=5000))["logits"]
    assert relative(far, exact) < 0.01


def test_fp16_has_room_for_the_squares_of_norms(tmp_path):
    """Hidden values of language models reach thousands, whose squares are beyond half precision."""
    source = decoder("llama")
    model = onnx.load(source.path)
    (name,) = (node.input[0] for node in model.graph.node if node.op_type == "Gather")
    table = next(t for t in model.graph.initializer if t.name == name)
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) * 3000, name))
    onnx.save(model, tmp_path / "model.onnx")
    fp16.apply(tmp_path / "model.onnx", tmp_path / "fp16.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "fp16.onnx"))
    given = feeds(source.graph, IDS)
    exact, got = (session_run(open_session(tmp_path / f"{n}.onnx"))(given)["logits"] for n in ("model", "fp16"))
    assert relative(got, exact) < 0.01


def test_fp16_of_a_padded_batch_has_no_nan(variant):
    source, _, run = variant("gpt2", "fp16")
    given = feeds(source.graph, IDS)
    given["attention_mask"][0, :5] = 0
    given["position_ids"] = np.maximum(given["attention_mask"].cumsum(1) - 1, 0)
    expected, got = source.run(given)["logits"], run(given)["logits"]
    assert np.isfinite(got).all()
    assert relative(got[0, 5:], expected[0, 5:]) < 0.003
