"""`tledge inspect` on backbones, language models and their students: nothing is downloaded, parameters are counted."""

import json
import shutil

import families
import language_bundle
import pytest
import tiny_language
import torch
from decoder_graph import decoder
from test_cli_main import one_line
from tiny_project import call
from transformers.utils import logging

from tledge.model import student
from tledge.recipe.distillation import Shape
from tledge.stages import student_costs

logging.disable_progress_bar()  # what writes the models here would draw bars among what is looked at


def facts(capfd, *arguments):
    done = call(capfd, "inspect", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        ((), set()),
        (("--freeze", "layer3"), {"layer4.0", "layer4.1"}),
        (("--freeze", "layer4"), set()),
        (("--freeze", "8"), {"layer4.1"}),
        (("--unfreeze", "layer4"), {"layer4.0", "layer4.1"}),
        (("--unfreeze", "1"), {"layer4.1"}),
        (("--unfreeze", "layer2.*.bn1.*"), {"layer2.0", "layer2.1"}),
    ],
)
def test_what_would_train_in_a_torchvision_backbone(options, trains, capfd):
    found = facts(capfd, "torchvision:resnet18", *options)
    assert [b["name"] for b in found["blocks"]] == ["conv1", *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1))]
    assert {b["name"] for b in found["blocks"] if b["trainable"]} == trains
    assert found["trainable"] == sum(b["trainable"] for b in found["blocks"])
    assert (found["n_features"], found["last_layer"], found["total"]) == (512, "fc", 11_176_512)
    assert found["preprocessing"]["size"] == [224, 224]


def test_random_weights_and_a_second_classifier_are_told_of(capfd):
    done = call(capfd, "inspect", "torchvision:googlenet", "--unfreeze", "inception5a")
    assert done.code == 0
    assert "GoogLeNet, 1024 features, input 224 x 224" in done.out
    assert "second classifier 'aux2': only in training" in done.out
    assert "note: random weights, which serve to look at it; --weights loads others" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert next(row for row in rows if row[:1] == ["inception4e"])[2] == "frozen"
    count = sum(p.numel() for p in families.image_backbone("torchvision:googlenet").module.inception5a.parameters())
    assert next(row for row in rows if row[:1] == ["inception5a"])[1:] == [f"{count:,}"] * 2


def test_timm_and_transformers_are_inspected_alike(capfd, tmp_path):
    assert facts(capfd, "timm:tf_efficientnet_lite0", "--unfreeze", "conv_head")["trainable"] == 320 * 1280 + 2 * 1280
    folder = families.save_image_model("vit", tmp_path)
    found = facts(capfd, folder, "--unfreeze", "1")
    assert [b["name"] for b in found["blocks"] if b["trainable"]] == ["vit.layers.2"]
    assert found["architecture"] == "ViTForImageClassification"
    assert found["preprocessing"]["size"] == [32, 32]


def test_weights_are_checked(capfd, tmp_path):
    state = families.image_backbone("torchvision:squeezenet1_1").module.state_dict()
    torch.save(state, tmp_path / "w.pth")
    assert facts(capfd, "torchvision:squeezenet1_1", "--weights", tmp_path / "w.pth")["notes"] == []
    done = call(capfd, "inspect", "torchvision:squeezenet1_0", "--weights", tmp_path / "w.pth")
    one_line(done, 4, "does not fit", "of another shape")


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        (("torchvision:resnet81",), 4, ["resnet81", "did you mean 'resnet18'"]),
        (("torchvision:resnet18", "--freeze", "layer9"), 4, ["finetune.freeze", "layer9"]),
        (("torchvision:resnet18", "--freeze", "0"), 2, ["--freeze", "from 1 on"]),
        (("torchvision:resnet18", "--freeze", "1", "--unfreeze", "1"), 2, ["--freeze", "leave one out"]),
        (("torchvision:resnet18", "--strategy", "full", "--unfreeze", "1"), 2, ["--unfreeze", "full"]),
        (("torchvision:resnet18", "--match", "shape"), 2, ["--match", "names or order", "'shape'"]),
        (("torchvision:resnet18", "--weights", "nowhere.pth"), 4, ["there is no file 'nowhere.pth'"]),
    ],
)
def test_mistakes_are_one_line(options, code, parts, capfd):
    one_line(call(capfd, "inspect", *options), code, *parts)


def test_weights_are_not_for_texts(pretrained, capfd):
    one_line(call(capfd, "inspect", pretrained("bert"), "--weights", "x.pth"), 2, "--weights", "torchvision")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return tiny_language.checkpoint(tmp_path_factory.mktemp("llama") / "model", "llama")


def test_a_language_model_is_shown_with_its_head(capfd, language_model):
    found = facts(capfd, language_model, "--unfreeze", "1")
    assert (found["architecture"], found["context_length"], found["vocabulary"]) == ("LlamaForCausalLM", 64, 320)
    assert found["total"] == sum(p.numel() for p in tiny_language.tiny_llama().parameters())
    assert found["total"] == sum(block["parameters"] for block in found["blocks"])
    names = ["model.embed_tokens", *(f"model.layers.{i}" for i in range(2)), "model.norm", "lm_head"]
    assert [block["name"] for block in found["blocks"]] == names
    assert [block["name"] for block in found["blocks"] if block["trainable"]] == names[2:]
    done = call(capfd, "inspect", language_model)
    assert "LlamaForCausalLM, hidden size 32, context 64 tokens, vocabulary 320 tokens" in done.out
    assert f"{found['total']:,} of {found['total']:,} parameters train" in done.out


def test_a_language_model_with_a_new_head_is_a_backbone(capfd, pretrained):
    assert facts(capfd, pretrained("gpt2"), "--strategy", "probe")["architecture"] == "GPT2Model"
    tied = facts(capfd, pretrained("gpt2"))
    assert tied["architecture"] == "GPT2LMHeadModel"
    assert [block["name"] for block in tied["blocks"]][-1] == "transformer.ln_f"


def test_a_student_of_a_runs_teacher_is_counted_and_timed(capfd, tmp_path):
    teacher, backbone = families.classifier(families.save("bert", tmp_path / "backbone", n_layers=2))
    teacher.save(tmp_path / "train" / "checkpoint", backbone)
    (tmp_path / "recipe.yaml").write_text("name: made-by-hand")
    found = facts(capfd, tmp_path, "--student", "every_second")
    made = found["student"]
    size = student.describe(student.from_layers(teacher, [0]))
    assert (made["layers"], made["n_layers"], found["teacher"]["n_layers"]) == ([0], 1, 2)
    assert made["parameters"] == size.parameters
    assert made["share"] == size.parameters / sum(p.numel() for p in teacher.parameters())
    assert made["size_mb"] == size.size_bytes / 1e6
    graphs = [(graph["model"], graph["scheme"]) for graph in found["graphs"]]
    assert graphs == [(who, scheme) for who in ("teacher", "student") for scheme in ("fp32", "int8_dynamic")]
    assert found["measured_at"] == "batch 1, length 24, 1 thread", "the teacher reads 24 tokens"
    for graph in found["graphs"]:
        assert set(graph["latency"]["percentiles_ms"]) >= {"p50", "p95"}
    assert found["graphs"][3]["size_mb"] < found["graphs"][2]["size_mb"] < found["graphs"][0]["size_mb"]


def test_a_student_of_a_language_model_is_timed_token_by_token(capfd, language_model, monkeypatch):
    made, exported = decoder("llama"), []

    def write_graph(module, path):  # each export takes seconds
        exported.append(student.describe(module).parameters)
        shutil.copy(made.path, path)
        return made.graph

    monkeypatch.setattr(student_costs, "write_graph", write_graph)
    done = call(capfd, "inspect", language_model, "--student-shape", "n_layers=1, hidden_size=16")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].endswith("LlamaForCausalLM; the student: n_layers 1, hidden_size 16, random weights")
    shape = student.of_shape(tiny_language.tiny_llama(), Shape(n_layers=1, hidden_size=16), 0)
    teacher = student.describe(tiny_language.tiny_llama()).parameters
    assert exported == [teacher, student.describe(shape).parameters]
    assert lines[1].startswith(f"{exported[1]:,} of {teacher:,} parameters ({exported[1] / teacher:.2f}), ")
    rows = [line for line in lines if line.strip().startswith(("teacher, ", "student, "))]
    assert [row.split()[1] for row in rows] == ["fp32", "int8_dynamic"] * 2
    assert "batch 1, length 32, 1 thread; a run is one new token after a past" in lines[-1]


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        (("--student", "0,9"), 4, ["--student: got 9", "3 blocks: 0 to 2"]),
        (("--student", "2,0"), 4, ["--student: got [2, 0]", "rising order"]),
        (("--student", "every_secnd"), 2, ["--student", "'every_secnd'", "did you mean 'every_second'"]),
        (("--student-shape", "layers=2"), 2, ["--student-shape", "'layers'", "did you mean 'n_layers'"]),
        (("--student-shape", "n_layers=0"), 2, ["--student-shape", "n_layers=N", "'n_layers=0'"]),
        (("--student-shape", "hidden_size=31"), 4, ["hidden_size 31", "2 heads", "such as 1"]),
        (("--student", "0", "--student-shape", "n_layers=2"), 2, ["--student-shape", "one way"]),
        (("--student", "0", "--freeze", "1"), 2, ["--freeze", "not for students"]),
    ],
)
def test_mistakes_about_students_are_one_line(options, code, parts, pretrained, capfd):
    one_line(call(capfd, "inspect", pretrained("bert"), *options), code, *parts)


def test_what_no_student_is_made_of(capfd, tmp_path, tiny_bundle):
    one_line(call(capfd, "inspect", "torchvision:resnet18", "--student", "0"), 4, "'torchvision:resnet18'", "images")
    one_line(call(capfd, "inspect", tiny_bundle, "--student", "0"), 2, "--student", "is a bundle")
    one_line(call(capfd, "inspect", "fresh:gpt2"), 4, "model.tokenizer", "'fresh:gpt2'")
    (tmp_path / "recipe.yaml").write_text("name: x")
    one_line(call(capfd, "inspect", tmp_path, "--student", "0"), 4, "no trained teacher yet", "tledge finetune")


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_bundle_without_a_whole_manifest_is_no_backbone(content, capfd, tiny_bundle):
    manifest = tiny_bundle / "bundle.json"
    manifest.unlink()
    if content is not None:
        manifest.write_text(content)
    one_line(call(capfd, "inspect", tiny_bundle), 8, "bundle.json")


def test_a_bundle_of_a_language_model_tells_what_it_reads(capfd, tmp_path):
    done = call(capfd, "inspect", language_bundle.copy(tmp_path / "bundle"))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"causal_lm, reads {tiny_language.CONTEXT} tokens, new ones included"
    assert "input past_key_values.0.key: float32 (batch_size, 2, past_sequence_length, 16)" in done.out
