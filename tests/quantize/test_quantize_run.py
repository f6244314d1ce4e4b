import dataclasses
import shutil
from types import SimpleNamespace

import families
import numpy as np
import onnx
import pytest

from tledge import plugins, significance, tasks
from tledge.artifacts import LatencyRatio
from tledge.errors import BundleError, QuantizeError, RecipeError
from tledge.evaluate import score
from tledge.quantize.choose import Limits
from tledge.quantize.run import SCHEMES, describe, run
from tledge.recipe.schema import Quantize
from tledge.runtime import open_session, session_run

EIGHT_BITS = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
TASK = tasks.load("text_classification")


@pytest.fixture
def quantize(exported, tmp_path):
    """`quantize("bert", ["fp16"])` runs the schemes on a graph, with timings that are made up."""

    def go(family, schemes, *, ratios=None, n_calibration=0, change=None, score_exactly=None):
        made = exported(family)
        shutil.copy(made.path, tmp_path / "model.onnx")
        if change is not None:
            change(tmp_path / "model.onnx")
        rows = families.rows(12)
        timed = []

        def time(graphs):
            timed.append(dict(graphs))
            given = {"int8_dynamic": 0.5, "fp16": 0.9} | (ratios or {})
            return {
                n: (
                    10 * given.get(n, 1),
                    None if n == "fp32" else LatencyRatio("fp32", given[n], given[n], given[n], 9),
                )
                for n in graphs
            }

        def scored(path, *, exact=False):
            return score(session_run(open_session(path, exact=exact)), made.encoder, rows.values, rows.targets, TASK)

        variants, _ = run(
            made.graph,
            tmp_path,
            schemes=schemes,
            settings=Quantize(),
            calibration=lambda: (made.encoder.encode([text]) for text in rows.values),
            score=lambda path, name: scored(path),
            score_exactly=None if score_exactly is None else lambda path, name: score_exactly(scored, path),
            compare=lambda ours, fp32: significance.paired(
                TASK, "accuracy", ours.records, rows.targets, fp32.records, rows.targets, reference="fp32"
            ),
            time=time,
            time_at="batch 1, length 8, 1 thread",
            limits=Limits("accuracy", 0.5),
            n_calibration=n_calibration,
        )
        return SimpleNamespace(variants=variants, timed=timed, folder=tmp_path, made=made)

    return go


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_scheme_runs_on_every_family(family, quantize):
    done = quantize(family, ["int8_dynamic", "fp16"])
    fp32, int8, fp16 = done.variants
    assert [v.name for v in done.variants] == ["fp32", "int8_dynamic", "fp16"]
    assert int8.graph.path == "model_int8.onnx"
    assert fp16.graph.path == "model_fp16.onnx"
    assert int8.graph.size_bytes < 0.75 * fp32.graph.size_bytes
    assert fp16.graph.size_bytes < 0.75 * fp32.graph.size_bytes
    for variant in done.variants:
        assert variant.graph.inputs == fp32.graph.inputs
        assert variant.graph.outputs == fp32.graph.outputs
        assert variant.graph.size_bytes == (done.folder / variant.graph.path).stat().st_size
        assert 0 <= variant.agreement <= 1
        assert set(variant.metrics) >= {"accuracy"}
        assert variant.latency_at == "batch 1, length 8, 1 thread"
    assert fp32.agreement == 1.0
    assert int8.chosen
    assert len(done.timed) == 1
    assert set(done.timed[0]) == {"fp32", "int8_dynamic", "fp16"}
    feeds = done.made.encoder.encode(families.TEXTS)
    exact = session_run(open_session(done.folder / "model.onnx"))(feeds)["logits"]
    half = session_run(open_session(done.folder / "model_fp16.onnx"))(feeds)["logits"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, exact, atol=0.02)


def one_block_for_all_layers(path):
    """Make products of the same size share one weight."""
    model = onnx.load(path)
    first = {}
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer if len(t.dims) == 2}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in shapes:
            node.input[1] = first.setdefault(shapes[node.input[1]], node.input[1])
    onnx.save(model, path)


@pytest.mark.parametrize("change", [None, one_block_for_all_layers])
def test_outputs_are_compared_with_exact_arithmetic_where_weights_are_shared_too(change, quantize):
    done = quantize(
        "bert", ["int8_dynamic"], change=change, score_exactly=lambda scored, path: scored(path, exact=True)
    )
    fp32, int8 = done.variants
    assert fp32.exact is None
    assert (int8.exact.rows, int8.exact.different, int8.exact.different_answers, int8.exact.largest) == (12, 0, 0, 0)
    assert sorted(path.name for path in done.folder.glob("*.onnx")) == ["model.onnx", "model_int8.onnx"]


def test_rows_whose_outputs_or_answers_are_not_the_exact_ones_are_counted(quantize):
    furthest = []

    def other(scored, path):
        found = scored(path)
        logits = found.records["logits"].copy()
        label = logits[0].argmax()
        logits[0, 1 - label] = logits[0, label] + 0.25
        logits[1:3, 0] += np.where(logits[1:3].argmax(axis=1) == 0, 0.25, -0.25)
        furthest.append(np.abs(logits - found.records["logits"]).max())
        return dataclasses.replace(found, records={"logits": logits})

    exact = quantize("bert", ["int8_dynamic"], score_exactly=other).variants[1].exact
    assert (exact.rows, exact.different, exact.different_answers) == (12, 3, 1)
    assert exact.largest == pytest.approx(furthest[0])
    assert furthest[0] >= 0.25


@pytest.mark.parametrize("family", families.FAMILIES)
def test_embeddings_and_products_are_stored_as_int8(family, quantize):
    done = quantize(family, ["int8_dynamic"])
    graph = onnx.load(done.folder / "model_int8.onnx").graph
    size = len(families.vocabulary(family))
    tables = [t for t in graph.initializer if list(t.dims) == [size, 32]]
    assert len(tables) == 1
    assert tables[0].data_type in EIGHT_BITS
    large = [t for t in graph.initializer if len(t.dims) == 2 and min(t.dims) >= 32]
    assert large
    assert {t.data_type for t in large} <= EIGHT_BITS


def test_half_precision_weights_are_float16(quantize):
    done = quantize("bert", ["fp16"])
    kinds = {t.data_type for t in onnx.load(done.folder / "model_fp16.onnx").graph.initializer if len(t.dims) == 2}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds


def test_without_schemes_fp32_is_chosen(quantize):
    (only,) = quantize("bert", []).variants
    assert only.name == "fp32"
    assert only.chosen


def test_describe_tells_what_the_export_told(exported):
    made = exported("bert")
    assert describe(made.path) == made.graph


def test_a_scheme_that_fails_is_named_in_one_line(quantize, monkeypatch):
    def apply(source, target):
        raise KeyError("a node\nand more")

    monkeypatch.setattr(plugins.load(SCHEMES, "fp16"), "apply", apply)
    with pytest.raises(QuantizeError) as caught:
        quantize("bert", ["fp16"])
    assert "scheme fp16 fails on this graph: KeyError" in str(caught.value)
    assert "remove it from quantize.schemes" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scheme_without_its_calibration_rows_fails_before_any_work(quantize, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(plugins.load(SCHEMES, "fp16"), "CALIBRATES", True)
    with pytest.raises(RecipeError, match=r"^quantize\.schemes: fp16 needs calibration rows; set data\.calibration"):
        quantize("bert", ["int8_dynamic", "fp16"])
    assert not (tmp_path / "model_int8.onnx").exists()
    monkeypatch.setattr(
        plugins.load(SCHEMES, "fp16"), "apply", lambda source, target, calibration: seen.append(calibration)
    )
    with pytest.raises(BundleError):
        quantize("bert", ["fp16"], n_calibration=5)
    assert len(list(seen[0]())) == 12


def test_an_unknown_scheme_fails_before_any_work(quantize, tmp_path):
    with pytest.raises(RecipeError, match=r"'int8_dynamik' is not among the schemes: .*did you mean 'int8_dynamic'\?"):
        quantize("bert", ["fp16", "int8_dynamik"])
    assert not (tmp_path / "model_fp16.onnx").exists()
