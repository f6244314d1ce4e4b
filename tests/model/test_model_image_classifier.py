import json

import families
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models
from transformers import AutoModelForImageClassification

from tledge import inputs, model
from tledge.errors import ModelError
from tledge.model.head import Rescale, folded, new_head

BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


@pytest.mark.parametrize(
    ("reference", "width", "last"),
    [
        ("torchvision:resnet18", 512, "fc"),
        ("torchvision:squeezenet1_1", 512, "classifier.1"),
        ("torchvision:mobilenet_v3_small", 1024, "classifier.3"),
        ("torchvision:inception_v3", 2048, "fc"),
        ("timm:tf_efficientnet_lite0", 1280, "classifier"),
        ("timm:deit_tiny_distilled_patch16_224", 192, "head_dist"),
        ("timm:convnext_atto", 320, "head.fc"),
    ],
)
def test_the_last_layer_is_found_and_exchanged(reference, width, last):
    built, backbone = families.image_classifier(reference, size=96, labels=("a", "b", "c"))
    assert (backbone.n_features, backbone.last_layer.name) == (width, last)
    pixels = built.example(2)["pixel_values"]
    with torch.no_grad():
        features = built.features(pixels)
        assert features.shape == (2, width)
        assert (features[0] - features[1]).abs().max() > 1e-4
        torch.testing.assert_close(built(pixels)["logits"], built.classifier(features))
    assert built(pixels)["logits"].shape == (2, 3)


def test_features_are_what_the_old_last_layer_took():
    torch.manual_seed(0)
    whole = models.resnet18().eval()
    backbone = families.image_backbone("torchvision:resnet18")
    backbone.module.load_state_dict({n: t for n, t in whole.state_dict().items() if not n.startswith("fc.")})
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(whole.fc(backbone.module(pixels)), whole(pixels))


def test_a_dropout_before_the_old_last_layer_goes_with_it():
    backbone = families.image_backbone("torchvision:mobilenet_v3_small").module
    assert not [m for m in backbone.modules() if isinstance(m, nn.Dropout)]


@pytest.mark.parametrize("hidden", [None, 8])
@pytest.mark.parametrize(
    "reference",
    ["torchvision:squeezenet1_1", "torchvision:inception_v3", "torchvision:mnasnet0_5", "timm:convnext_atto"],
)
def test_a_saved_classifier_comes_back_with_the_same_logits(reference, hidden, tmp_path):
    size = 96 if "inception" in reference else 64
    built, backbone = families.image_classifier(reference, size=size, head_hidden_size=hidden, dropout_prob=0.3)
    built.save(tmp_path, backbone)
    again = model.load(tmp_path)
    with torch.no_grad():
        pixels = built.example(2)["pixel_values"]
        assert torch.equal(built(pixels)["logits"], again(pixels)["logits"])
    assert (again.size, again.dropout.p, again.training) == ((size, size), 0.3, False)
    assert inputs.load("image", tmp_path).facts == backbone.preprocessing
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["problem_type"] == "single_label_classification"
    assert config["tledge"]["task"] == "image_classification"


def test_torchvision_loads_a_checkpoint_by_itself(tmp_path):
    built, backbone = families.image_classifier("torchvision:resnet18", labels=("a", "b", "c"))
    built.save(tmp_path, backbone)
    plain = models.resnet18(num_classes=3).eval()
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        pixels = built.example(2)["pixel_values"]
        torch.testing.assert_close(plain(pixels), built(pixels)["logits"])


@pytest.mark.parametrize("family", ["vit", "resnet", "convnext"])
def test_transformers_loads_a_checkpoint_by_itself(family, tmp_path):
    folder = str(families.save_image_model(family, tmp_path / "own"))
    built, backbone = families.image_classifier(folder, size=None, labels=("a", "b", "c"))
    built.save(tmp_path / "checkpoint", backbone)
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "checkpoint").eval()
    with torch.no_grad():
        pixels = built.example(2)["pixel_values"]
        expected = built(pixels)["logits"]
        torch.testing.assert_close(plain(pixels).logits, expected)
        torch.testing.assert_close(model.load(tmp_path / "checkpoint")(pixels)["logits"], expected)
    assert plain.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_an_earlier_checkpoint_is_a_backbone_for_other_labels(tmp_path):
    first, backbone = families.image_classifier("torchvision:squeezenet1_1", labels=("a", "b", "c"), size=48)
    first.save(tmp_path, backbone)
    again = model.load_backbone(str(tmp_path), kind="image")
    second = model.build(
        again, task="image_multilabel", problem_type="multi_label_classification", labels=tuple("vwxyz"),
        dropout_prob=0.0, head_hidden_size=None,
    )  # fmt: skip
    pixels = first.example(2)["pixel_values"]
    with torch.no_grad():
        assert torch.equal(second.features(pixels), first.features(pixels))
        assert second(pixels)["logits"].shape == (2, 5)
    assert again.preprocessing == backbone.preprocessing
    untrained = model.load_backbone(str(tmp_path), kind="image", pretrained=False)
    assert model.weights_digest(untrained.module) != model.weights_digest(again.module)
    assert model.kind_of(str(tmp_path)) == "image"


def test_weights_that_do_not_fit_are_refused(tmp_path):
    built, backbone = families.image_classifier("torchvision:squeezenet1_1")
    built.save(tmp_path, backbone)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"does not fit config\.json: .*run the train stage again") as caught:
        model.load(tmp_path)
    assert "\n" not in str(caught.value)


def modes(built):
    return {name: m.training for name, m in built.backbone.named_modules() if isinstance(m, BATCH_NORMS)}


def test_batch_norms_of_frozen_parts_stay_in_eval_mode():
    built, _ = families.image_classifier("torchvision:resnet18")
    sample = built.example(4)
    model.freeze(built.backbone, "probe")
    assert not any(modes(built.train()).values())
    model.freeze(built.backbone, "partial", "layer4", sample=sample)
    trains = {name for name, mode in modes(built.train()).items() if mode}
    assert trains == {name for name in modes(built) if name.startswith("layer4")}
    model.freeze(built.backbone, "partial", "layer4.*.conv?.weight", sample=sample)
    assert not any(modes(built.train()).values())
    before = built.backbone.layer4[0].bn1.running_mean.clone()
    built(**sample)["logits"].sum().backward()
    assert torch.equal(built.backbone.layer4[0].bn1.running_mean, before)
    assert built.backbone.layer4[0].conv1.weight.grad is not None
    model.freeze(built.backbone, "full")
    assert all(modes(built.train()).values())
    assert not any(modes(built.eval()).values())


def test_a_second_classifier_speaks_in_training_alone(tmp_path):
    built, backbone = families.image_classifier("torchvision:inception_v3", size=299, labels=("a", "b", "c"))
    assert backbone.aux == "AuxLogits"
    sample = built.example(2)
    model.freeze(built.backbone, "full")
    output = built.train()(**sample)
    assert output["aux_logits"].shape == (2, 3)
    output["aux_logits"].sum().backward()
    assert built.backbone.AuxLogits.fc.weight.grad is not None
    assert built.backbone.Mixed_7a.branch3x3_1.conv.weight.grad is None
    assert set(built.eval()(**sample)) == {"logits"}
    model.freeze(built.backbone, "partial", "Mixed_7a", sample=sample)
    assert set(built.train()(**sample)) == {"logits"}
    model.freeze(built.backbone, "probe")
    assert set(built.train()(**sample)) == {"logits"}
    built.save(tmp_path, backbone)
    assert not any(name.startswith("AuxLogits") for name in load_file(tmp_path / "model.safetensors"))


def test_a_second_classifier_is_left_out_where_images_are_too_small_for_it():
    built, backbone = families.image_classifier("torchvision:inception_v3", size=96)
    assert backbone.aux is None
    assert "the second classifier 'AuxLogits' is left out: images of 96 x 96 pixels are too small" in backbone.notes[1]
    model.freeze(built.backbone, "full")
    assert set(built.train()(**built.example(2))) == {"logits"}
    assert len(built.blocks()) == 16


def test_inception_takes_pixels_normalised_as_for_imagenet():
    assert families.image_backbone("torchvision:inception_v3", size=96).module.transform_input is True


def test_a_regression_answers_in_the_unit_of_its_target(tmp_path):
    built, backbone = families.image_classifier(
        "torchvision:squeezenet1_1", labels=("age",), problem_type="regression", task="image_regression",
        target_scale=(40.0, 12.0),
    )  # fmt: skip
    sample = built.example(4)
    with torch.no_grad():
        last = built.classifier[0]
        standard = last(built.features(**sample))
        torch.testing.assert_close(built(**sample)["logits"], standard * 12 + 40)
        built.save(tmp_path, backbone)
        torch.testing.assert_close(model.load(tmp_path)(**sample)["logits"], built(**sample)["logits"])
    assert isinstance(built.classifier[-1], Rescale)
    assert load_file(tmp_path / "model.safetensors")["classifier.1.weight"].shape == (1, 512)


def test_a_regression_of_texts_answers_in_the_unit_of_its_target(pretrained, tmp_path):
    backbone = model.load_backbone(str(pretrained("bert")))
    built = model.build(
        backbone, task="text_regression", problem_type="regression", labels=("stars",), pooling="mean", max_length=16,
        dropout_prob=0.0, head_hidden_size=8, target_scale=(3.0, 0.5),
    )  # fmt: skip
    ids = {"input_ids": torch.ones(2, 4, dtype=torch.int64), "attention_mask": torch.ones(2, 4, dtype=torch.int64)}
    built.save(tmp_path, backbone)
    again = model.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(built(**ids)["logits"], built.classifier[:-1](built.features(**ids)) * 0.5 + 3)
        torch.testing.assert_close(again(**ids)["logits"], built(**ids)["logits"])
    assert not any(isinstance(m, Rescale) for m in again.modules())


@pytest.mark.parametrize("hidden", [None, 3])
def test_folding_leaves_a_trained_head_as_it_is(hidden):
    torch.manual_seed(0)
    head = new_head(4, 1, dropout_prob=0.5, hidden_size=hidden, target_scale=(-2.0, 0.0)).eval()
    x = torch.randn(5, 4)
    before = head(x)
    torch.testing.assert_close(folded(head)(x), before)
    assert torch.equal(head(x), before)
    assert before.std() > 0  # a deviation of 0 does not make everything one number
    plain = new_head(4, 2, dropout_prob=0.5, hidden_size=hidden)
    assert folded(plain) is plain


def test_settling_makes_features_of_a_random_network_usable():
    backbone = families.image_backbone("torchvision:mobilenet_v3_small", size=32).module
    weights = {n: p.clone() for n, p in backbone.named_parameters()}
    batches = [{"pixel_values": torch.randn(8, 3, 32, 32).numpy()} for _ in range(3)]
    with torch.no_grad():
        before = backbone(torch.as_tensor(batches[0]["pixel_values"])).std(dim=0).max()
        assert model.update_batch_norms(backbone, batches) == len(
            [m for m in backbone.modules() if isinstance(m, BATCH_NORMS)]
        )
        after = backbone(torch.as_tensor(batches[0]["pixel_values"])).std(dim=0).max()
    assert before < 1e-4 < 1e-2 < after < 100
    assert all(torch.equal(p, weights[n]) for n, p in backbone.named_parameters())
    first = next(m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    assert (int(first.num_batches_tracked), first.momentum, backbone.training) == (3, 0.1, False)


def test_a_network_without_batch_norms_takes_no_batch_to_settle():
    assert model.update_batch_norms(nn.Linear(2, 2), iter(lambda: pytest.fail("a batch was taken"), None)) == 0
