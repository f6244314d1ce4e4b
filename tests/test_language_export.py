"""The stages `export` and `quantize` of a language model, after `data` and `train`."""

import json
import math

import numpy as np
import onnx
import pytest
import torch
from tiny_language import checkpoint

from tledge import answers, artifacts, stages
from tledge.artifacts import Graph, LatencyRatio, ParityCase, Variant
from tledge.data import open_blocks
from tledge.errors import ParityError
from tledge.evaluate import Evaluation, score
from tledge.recipe.schema import Recipe
from tledge.stages import Job
from tledge.stages import export as export_stage
from tledge.stages import quantize as quantize_stage
from tledge.stages.rows.blocks import BlockInput
from tledge.stages.runs import generation
from tledge.tasks import causal_lm

TEXT = "The ferry leaves the harbour, and the miller sings. Two stone bridges lead over the river.\n" * 300


def make_job(folder, **sections):
    settings = {
        "name": "tiny",
        "task": "causal_lm",
        "data": {"train": str(folder / "text.txt"), "validation": 0.05, "test": 0.05},
        "model": {"backbone": str(folder / "model"), "max_length": 32},
        "finetune": {"strategy": "none"},
        "quantize": {"schemes": ["int8_dynamic", "int4_weight_only", "fp16"]},
        "budget": {"max_metric_drop": 0.5},
        "bench": {"length": [12], "percentile": 50, "duration_s": 2},
    }
    for name, value in sections.items():
        settings[name] = {**settings[name], **value}
    return Job(Recipe(**settings), folder / "run")


def run(job, name):
    folder = job.stage(name)
    folder.mkdir(parents=True, exist_ok=True)
    return stages.load(name).stage(job, folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run up to the stage `export`, and what that stage said; change nothing in it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("language")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    checkpoint(folder / "model", "gpt2")
    job = make_job(folder)
    (job.folder / "logs").mkdir(parents=True)
    for name in ("data", "train"):
        run(job, name)
    return job, run(job, "export")


@pytest.fixture(scope="module")
def timed(exported):
    """What `bench.run` would be asked to time, answered at once: each scheme takes half of fp32's time."""
    asked = {}

    def time(job, graphs, feeds, length):
        asked.update(graphs)
        ratio = {name: LatencyRatio("fp32", 0.5 - 0.01 * i, 0.4, 0.6, 100) for i, name in enumerate(graphs)}
        return {name: (1.0, None if name == "fp32" else ratio[name]) for name in graphs}

    return asked, time


@pytest.fixture(scope="module")
def quantized(exported, timed):
    """The same run after `quantize`, with variants and what was said."""
    job, _ = exported
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize_stage, "timed", timed[1])
        line = run(job, "quantize")
    folder = job.stage("quantize")
    stored = json.loads((folder / "variants.json").read_text())
    return job, folder, [artifacts.from_dict(Variant, each) for each in stored], line


def test_export_leaves_the_graph_the_proof_and_the_ecosystems_files(exported):
    job, line = exported
    folder = job.stage("export")
    graph = artifacts.from_dict(Graph, json.loads((folder / "graph.json").read_text()))
    assert graph.size_bytes == (folder / graph.path).stat().st_size
    assert [v.name for v in graph.inputs[:4]] == [
        "input_ids",
        "attention_mask",
        "position_ids",
        "past_key_values.0.key",
    ]
    cases = [artifacts.from_dict(ParityCase, each) for each in json.loads((folder / "parity.json").read_text())]
    assert all(case.passed for case in cases)
    assert f"parity in {len(cases)} cases" in line
    assert any("greedily" in case.name and case.padded for case in cases)
    names = {path.name for path in (folder / "inputs").iterdir()}
    assert names >= {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}


def test_a_graph_that_computes_something_else_stops_the_stage(exported, monkeypatch):
    job, _ = exported
    from tledge import export

    def spoilt(module, path, **options):
        model = onnx.load(job.stage("export") / "model.onnx")
        for node in model.graph.node:  # the second layer reads the first one's past
            node.input[:] = [name.replace("past_key_values.1.value", "past_key_values.0.value") for name in node.input]
        onnx.save(model, path)

    monkeypatch.setattr(export, "export_decoder", spoilt)
    folder = job.folder / "spoilt"
    folder.mkdir()
    with pytest.raises(ParityError, match="the graph differs from torch"):
        export_stage.stage(job, folder)
    told = json.loads((job.folder / "logs" / "parity.json").read_text())
    assert {case["passed"] for case in told} == {True, False}
    assert not (folder / "graph.json").exists()


@pytest.mark.parametrize(("count", "block"), [(9, 512), (1, 32), (3, 6), (1, 4)])
def test_prompts_have_several_lengths_whatever_the_blocks(count, block):
    blocks = np.arange(count * block, dtype=np.int32).reshape(count, block)
    prompts = generation.prompts_of(blocks)
    assert len({len(prompt) for prompt in prompts}) > 1
    assert all(2 <= len(prompt) <= min(96, block) for prompt in prompts)
    assert all(prompt == list(range(prompt[0], prompt[0] + len(prompt))) for prompt in prompts)
    assert all(prompt[0] % block == 0 for prompt in prompts)


def test_variants_are_scored_as_language_models(quantized, timed):
    job, folder, variants, line = quantized
    assert [v.name for v in variants] == ["fp32", "int8_dynamic", "int4_weight_only", "fp16"]
    assert [v.graph.path for v in variants] == [
        "model.onnx",
        "model_int8.onnx",
        "model_q4.onnx",
        "model_fp16.onnx",
    ]
    assert set(timed[0]) == {v.name for v in variants}
    blocks = open_blocks(job.stage("data"))
    module = torch_module(job)
    for split, stored in (("validation", "metrics"), ("test", "test_metrics")):
        exact = exactly(module, getattr(blocks, split), blocks.bytes_per_token[split])
        for variant in variants:
            metrics = getattr(variant, stored)
            assert set(metrics) == {"loss", "perplexity", "bits_per_byte", "next_token_accuracy"}
            assert metrics["loss"] == pytest.approx(exact.metrics["loss"], abs=1e-4 if variant.name == "fp32" else 0.5)
            assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    assert variants[0].agreement == 1
    assert 0.5 < variants[2].agreement < variants[1].agreement <= variants[3].agreement <= 1
    assert variants[0].latency_at == "one token after 12, batch 1, 1 thread"
    chosen = next(v for v in variants if v.chosen)
    assert line.startswith(f"{chosen.name} chosen, test loss {chosen.test_metrics['loss']:.3f}; ")
    assert json.loads((folder / "candidates.json").read_text()) == []
    counted = {split: getattr(blocks, split).size for split in ("validation", "test")}
    assert json.loads((folder / "scored.json").read_text()) == counted, "so few blocks are all scored"


def test_the_gate_finds_the_losses_of_every_variant(quantized):
    job, folder, variants, _ = quantized
    blocks = open_blocks(job.stage("data")).test
    for variant in variants:
        stored = answers.read(folder, variant.name)
        np.testing.assert_array_equal(stored.targets, blocks)
        assert stored.hashes.tolist() == [answers.hash_of(block.tobytes()) for block in blocks]
        found = causal_lm.score(stored.records, stored.targets)
        assert found == pytest.approx(variant.test_metrics, rel=1e-5)


def exactly(module, blocks, rate):
    return score(module, BlockInput(rate), blocks, blocks, causal_lm, batch_size=8)


def torch_module(job):
    from tledge import export, model

    return export.torch_logits(model.load_language(str(job.checkpoint)).module)


def test_the_chosen_variant_writes_samples_for_the_report(quantized):
    _, folder, _, _ = quantized
    samples = json.loads((folder / "samples.json").read_text())
    assert len(samples) == 3
    for sample in samples:
        assert set(sample) == {"prompt", "text"}
        assert sample["prompt"] in TEXT
        assert sample["text"]


def test_a_rise_of_the_loss_is_held_against_a_variant(exported, timed, monkeypatch):
    job = make_job(
        exported[0].folder.parent, budget={"max_metric_drop": 0.0}, quantize={"schemes": ["int4_weight_only"]}
    )
    monkeypatch.setattr(quantize_stage, "timed", timed[1])
    scores = iter((3.0, 3.2, 3.0, 3.2))

    def score(run, encoder, values, targets, task, **_):
        loss = next(scores)
        shape = (len(targets), targets.shape[1] - 1)
        records = {"token_losses": np.full(shape, loss), "tokens": np.zeros(shape, np.int64)}
        return Evaluation(task, {"loss": loss}, records)

    monkeypatch.setattr(quantize_stage, "score", score)
    folder = job.folder / "strict"
    folder.mkdir()
    line = quantize_stage.stage(job, folder)
    assert line.startswith("fp32 chosen, test loss 3.000")
    told = {each["name"]: each["reason"] for each in json.loads((folder / "variants.json").read_text())}
    assert told["int4_weight_only"].startswith("loss rises by 0.2000 (95 % interval 0.2000 to 0.2000")
    assert told["int4_weight_only"].endswith("more than the 0 allowed")


def test_one_step_with_a_past_is_timed(exported, monkeypatch):
    job, _ = exported
    fp32 = artifacts.from_dict(Graph, json.loads((job.stage("export") / "graph.json").read_text()))
    graphs = {"fp32": job.stage("export") / "model.onnx"}
    from tledge import bench

    seen = {}
    whole = bench.run

    def watched(candidates, make_feeds, **settings):
        seen.update(settings, feeds=make_feeds(1, settings["lengths"][0]))
        return whole(candidates, make_feeds, **settings)

    monkeypatch.setattr(bench, "run", watched)
    timing = generation.timing(job, fp32, job.stage("export") / "inputs")
    milliseconds, ratio = quantize_stage.timed(job, graphs, timing.feeds, timing.length)["fp32"]
    assert milliseconds > 0 and ratio is None
    assert seen["feeds"]["input_ids"].shape == (1, 1)
    assert seen["feeds"]["attention_mask"].shape == (1, 13)
    assert seen["feeds"]["past_key_values.1.value"].shape == (1, 2, 12, 16)
    assert seen["provider"] == "cpu"
    long = make_job(job.folder.parent, bench={"length": [500]})
    timing = generation.timing(long, fp32, job.stage("export") / "inputs")
    assert timing.length == 63  # the context has 64


def test_a_scheme_that_calibrates_is_refused(exported):
    with pytest.raises(
        ValueError, match=r"quantize\.schemes: int8_static is for graphs without a cache; use int8_weight_only"
    ):
        make_job(exported[0].folder.parent, quantize={"schemes": ["int8_dynamic", "int8_static"]})
