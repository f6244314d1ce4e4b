"""Bundles of language models: layout, manifest, and golden vectors that a wrong graph or a wrong cache fails."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import decoder_graph
import language_bundle
import numpy as np
import onnx
import pytest
import sealing
from safetensors.numpy import load_file, save_file

from tledge import bundle, past
from tledge.bundle import checksum, golden, golden_language, read_decoding
from tledge.errors import BundleError
from tledge.runtime import verify


def accept_hashes(folder):
    """Make the manifest agree with the files, so that only what is behind the hashes can be found."""
    path = folder / "bundle.json"
    sealing.write(path, json.loads(path.read_text()) | {"files": checksum.hashes(folder)})


def failed(folder):
    return {check.name: check.detail for check in verify(folder).checks if not check.passed}


def test_layout_and_manifest():
    folder = language_bundle.shared()
    manifest = bundle.load(folder)
    assert sorted(manifest.files) == [
        "README.md", "config.json", "generation_config.json", "golden.safetensors", "onnx/model.onnx",
        "onnx/model_int8.onnx", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert (manifest.task, manifest.problem_type, manifest.labels) == ("causal_lm", "causal_lm", ())
    assert (manifest.format_version, manifest.input.max_length) == (2, 64)
    assert manifest.generation == bundle.Decoding(64, (0,), 0, 0)
    assert manifest.metrics == {"loss": 5.1}
    assert json.loads((folder / "bundle.json").read_text())["generation"] == {
        "context_length": 64, "eos_token_ids": [0], "bos_token_id": 0, "pad_token_id": 0
    }  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["transformers.js_config"] == {"dtype": "int8"}


def test_transformers_reads_the_folder():
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    folder = language_bundle.shared()
    assert AutoTokenizer.from_pretrained(folder).padding_side == "left"
    assert AutoConfig.from_pretrained(folder).architectures == ["GPT2LMHeadModel"]
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 0


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_whole_bundle_verifies(kind):
    result = verify(language_bundle.shared(kind))
    assert result.passed, result
    details = {check.name: check.detail for check in result.checks}
    n_sentences = len(bundle.load(language_bundle.shared(kind)).golden.values)
    total = 2 * n_sentences + sum(continuation_lengths(kind))
    assert details["golden fp32"] == f"within 0.1% of the largest output, {total} of {total} tokens the same"


def continuation_lengths(kind):
    tensors = load_file(language_bundle.shared(kind) / "golden.safetensors")
    return [tensors[f"{i}-continued.input.continuation"].shape[1] for i in range(3)]


def test_golden_tensors():
    tensors = load_file(language_bundle.shared() / "golden.safetensors")
    lengths = continuation_lengths("gpt2")
    assert max(lengths) == 16
    for i, length in enumerate(lengths):
        prompt = tensors[f"{i}.input.input_ids"].shape[1]
        assert length == min(16, 64 - prompt + 1)
        for source in ("torch", "fp32", "int8"):
            assert tensors[f"{i}-continued.output.{source}.logits"].shape == (length, 320 + 2)
            assert tensors[f"{i}.output.{source}.logits"].shape == (1, 320 + 1)
        # The prompt's own answer is where the continuation begins.
        np.testing.assert_allclose(
            tensors[f"{i}-continued.output.fp32.logits"][0, :-1], tensors[f"{i}.output.fp32.logits"][0], atol=1e-5
        )
    batch = tensors["batch.input.attention_mask"]
    assert (batch[:, -1] == 1).all()
    assert batch[6, 0] == 0


def test_continuation_is_what_torch_generates():
    import torch

    tensors = load_file(language_bundle.shared("llama") / "golden.safetensors")
    ids = torch.from_numpy(tensors["0.input.input_ids"])
    module = decoder_graph.decoder("llama").module
    new = module.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=16, max_new_tokens=16, pad_token_id=0
    )[:, ids.shape[1] :]
    assert tensors["0-continued.input.continuation"].tolist() == new.tolist()
    assert tensors["0-continued.output.fp32.tokens"].tolist() == new[0].tolist()


def test_logits_are_kept_less_their_mean():
    import torch

    tensors = load_file(language_bundle.shared() / "golden.safetensors")
    with torch.no_grad():
        logits = decoder_graph.decoder("gpt2").module(torch.from_numpy(tensors["0.input.input_ids"])).logits[0, -1]
    expected = (logits - logits.mean()).numpy()
    np.testing.assert_allclose(tensors["0.output.torch.logits"][0, :-1], expected, atol=1e-4)
    assert tensors["0.output.torch.logits"][0, -1] == pytest.approx(expected.max(), abs=1e-4)


def test_reading_in_parts_is_reading_at_once(monkeypatch):
    graph = decoder_graph.decoder("llama")
    tensors = load_file(language_bundle.shared("llama") / "golden.safetensors")
    batch = {name: tensors[f"batch.input.{name}"] for name in ("input_ids", "attention_mask")}
    run = golden_language.graph_run(graph.run, graph.graph.inputs)
    whole = run(batch)
    monkeypatch.setattr(past, "READ_AT_ONCE", 7)
    np.testing.assert_allclose(run(batch)["logits"], whole["logits"], atol=1e-4)


def test_ids_are_spread_over_the_vocabulary():
    ids = golden_language.spread_ids(50257)
    assert (ids[0], ids[-1], len(ids)) == (0, 50256, 512)
    assert set(np.diff(ids)) == {98, 99}
    assert golden_language.spread_ids(5).tolist() == [0, 1, 2, 3, 4]


def test_other_weights_are_found(tmp_path):
    folder = language_bundle.copy(tmp_path / "b")
    language_bundle.change_weights(folder / "onnx" / "model.onnx", lambda array: array * 1.02)
    accept_hashes(folder)
    assert list(failed(folder)) == ["golden fp32"]
    assert "sentence 0 ('The ferry leaves" in failed(folder)["golden fp32"]


def test_a_wrong_cache_is_found_by_the_continuation_alone(tmp_path):
    """The outputs of two layers' keys change places, which no pass without a past can notice."""
    folder = language_bundle.copy(tmp_path / "b")
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    swapped = {"present.0.key": "present.1.key", "present.1.key": "present.0.key"}
    for node in model.graph.node:
        node.output[:] = [swapped.get(name, name) for name in node.output]
        node.input[:] = [swapped.get(name, name) for name in node.input]
    onnx.save(model, path)
    accept_hashes(folder)
    found = failed(folder)
    assert list(found) == ["golden fp32"]
    assert "sentence 0 continued" in found["golden fp32"]
    assert all(" continued (" in problem for problem in found["golden fp32"].split("; "))


def test_a_graph_that_torch_does_not_agree_with_is_not_bundled(tmp_path):
    arguments = language_bundle.arguments()
    before = arguments["reference"]
    arguments["reference"] = lambda feeds: {"logits": before(feeds)["logits"][..., ::-1]}
    with pytest.raises(BundleError, match="variant fp32 fails its own golden vectors: sentence 0"):
        bundle.write(tmp_path / "bundle", **arguments)
    assert not (tmp_path / "bundle").exists()


def test_without_torch_the_first_variant_tells_how_it_goes_on(tmp_path):
    written = bundle.write(tmp_path / "bundle", **language_bundle.arguments() | {"reference": None})
    tensors = load_file(tmp_path / "bundle" / "golden.safetensors")
    assert not any(".torch." in key for key in tensors)
    assert written.golden.continued == 3
    assert tensors["1-continued.output.fp32.tokens"].tolist() == tensors["1-continued.input.continuation"][0].tolist()
    assert verify(tmp_path / "bundle").passed


@pytest.mark.parametrize(
    "gone", ["0-continued.input.continuation", "0.input.attention_mask", "1-continued.output.fp32.logits", "batch."]
)
def test_golden_vectors_that_lack_something(tmp_path, gone):
    folder = language_bundle.copy(tmp_path / "b")
    path = folder / "golden.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if not key.startswith(gone)}, path)
    accept_hashes(folder)
    found = failed(folder)
    assert found
    assert "files" not in found


def test_a_turned_decision_between_equals_is_told_and_passes():
    stored = {"0": {"fp32": {"logits": np.float32([[1, 1]]), "tokens": np.int64([0])}}}
    vectors = golden.Vectors({"0": ["x"]}, {"0": {}}, stored)
    facts = bundle.Golden("golden.safetensors", {"fp32": 1e-3}, (("x",),))
    got = {"0": {"logits": np.float32([[1, 1.0001]]), "tokens": np.int64([1])}}
    assert golden.check_outputs(vectors, facts, "fp32", got) == []
    assert golden.same_decisions(vectors, "fp32", got) == "0 of 1 tokens the same"


def test_special_tokens_come_from_the_files(tmp_path):
    folder = language_bundle.copy(tmp_path / "b")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 7], "bos_token_id": None}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 5}))
    assert read_decoding(folder) == bundle.Decoding(64, (0, 7), 5, 0)
    (folder / "generation_config.json").unlink()
    assert read_decoding(folder) == bundle.Decoding(64, (0,), 5, 0)
    (folder / "config.json").write_text("{}")
    assert read_decoding(folder) == bundle.Decoding(64, (), None, 0)
    (folder / "config.json").write_text("[")
    with pytest.raises(BundleError, match=r"config.json cannot be read as a JSON object"):
        read_decoding(folder)


def test_manifest_without_room_for_a_token_is_damaged(tmp_path):
    folder = language_bundle.copy(tmp_path / "b")
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    data["generation"]["context_length"] = 1
    sealing.write(path, data)
    with pytest.raises(BundleError, match=r"damaged: generation.context_length must be 2 or more, got 1"):
        bundle.load(folder)


RECIPE = """\
name: tiny
task: causal_lm
data:
  train: text.txt
model:
  backbone: checkpoint
  max_length: 32
finetune:
  strategy: none
"""


def test_the_stage_puts_a_run_together(tmp_path, monkeypatch):
    """The rooms before it left their files; the model card is another's business."""
    from tledge import artifacts, data, recipe, report, stages
    from tledge.stages import bundle as stage

    arguments = language_bundle.arguments(folder=tmp_path)
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for place in ("train/checkpoint", "export/inputs"):
        shutil.copytree(arguments["checkpoint"], tmp_path / place)
    (tmp_path / "data").mkdir()
    artifacts.write_json(tmp_path / "data" / "data.json", {"rows": {"train": 7}, "label_counts": {}, "labels": []})
    artifacts.write_json(tmp_path / "train" / "train.json", {"backbone_sha256": "ab" * 32})
    (tmp_path / "quantize").mkdir()
    for variant, file in arguments["variants"]:
        shutil.copyfile(file, tmp_path / "quantize" / variant.graph.path)
    variants = [artifacts.to_dict(variant) for variant, _ in arguments["variants"]]
    artifacts.write_json(tmp_path / "quantize" / "variants.json", variants)
    blocks = SimpleNamespace(calibration=np.empty((0, 8), np.int32), bytes_per_token={})
    monkeypatch.setattr(data, "open_blocks", lambda folder: blocks)
    facts = dataclasses.make_dataclass("Facts", ["bench", "transfer"])(1, 1)
    monkeypatch.setattr(stage.evidence, "facts", lambda recipe, folder: facts)
    monkeypatch.setattr(report, "model_card", lambda facts: "# A card\n")
    job = stages.Job(recipe.load_recipe(tmp_path / "recipe.yaml"), tmp_path)
    line = stages.load("bundle").stage(job, tmp_path / "bundle")
    assert line.startswith("2 variant(s), ")
    assert line.endswith(" MB, int8 is chosen")
    manifest = bundle.load(tmp_path / "bundle")
    assert (manifest.name, manifest.task, manifest.generation.context_length) == ("tiny", "causal_lm", 64)
    assert manifest.provenance.rows == {"train": 7}
    assert manifest.provenance.calibration == ()
    tensors = load_file(tmp_path / "bundle" / "golden.safetensors")
    assert tensors["2-continued.output.torch.tokens"].tolist() == tensors["2-continued.input.continuation"][0].tolist()
    assert verify(tmp_path / "bundle").passed
