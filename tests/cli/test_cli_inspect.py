"""`tledge inspect` on image backbones: nothing is downloaded, and what would train is counted."""

import json

import families
import pytest
import torch
from test_cli_main import one_line
from tiny_project import call


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
