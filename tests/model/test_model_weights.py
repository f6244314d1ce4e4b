from collections import OrderedDict
from dataclasses import dataclass

import families
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from tledge import model
from tledge.errors import ModelError
from tledge.inputs.image import Facts
from tledge.model.weights import match, read

NAME = "torchvision:squeezenet1_1"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return models.squeezenet1_1().state_dict()


def loaded(path, how="names", reference=NAME):
    return model.load_backbone(reference, kind="image", weights=str(path), match=how)


@pytest.mark.parametrize("form", ["plain", "module.", "module._orig_mod.model.", "state_dict", "classes", "headless"])
def test_a_file_of_weights_is_loaded(form, state, tmp_path):
    path = tmp_path / "weights.pth"
    kept = dict(state)
    if form.startswith("module."):
        kept = {f"{form}{n}": t for n, t in kept.items()}
    if form == "classes":
        kept |= {"classifier.1.weight": torch.zeros(7, 512, 1, 1), "classifier.1.bias": torch.zeros(7)}
    if form == "headless":
        kept = {n: t for n, t in kept.items() if not n.startswith("classifier")}
    torch.save({"epoch": 3, "state_dict": kept} if form == "state_dict" else kept, path)
    backbone = loaded(path)
    assert torch.equal(backbone.module.features[0].weight, state["features.0.weight"])
    assert torch.equal(backbone.module.features[12].expand3x3.bias, state["features.12.expand3x3.bias"])
    assert backbone.notes == ()


@pytest.mark.parametrize("name", ["epoch=3.ckpt", "pytorch_model.bin"])
def test_what_stands_beside_the_network_is_left_out_and_told(name, state, tmp_path):
    kept = {f"model.{n}": t for n, t in state.items()} | {"loss_fn.weight": torch.ones(3), "acc.correct": torch.ones(1)}
    torch.save({"epoch": 3, "state_dict": kept, "hyper_parameters": {"lr": 1e-3}}, tmp_path / name)
    backbone = loaded(tmp_path / name)
    assert torch.equal(backbone.module.features[0].weight, state["features.0.weight"])
    assert backbone.notes == (
        f"of {tmp_path / name} the tensors under 'model.' were taken, and 2 left out: loss_fn.weight, acc.correct",
    )


def test_names_of_compiled_layers_are_found(state, tmp_path):
    torch.save({n.replace("squeeze.", "squeeze._orig_mod."): t for n, t in state.items()}, tmp_path / "w.pt")
    backbone = loaded(tmp_path / "w.pt")
    assert torch.equal(backbone.module.features[3].squeeze.bias, state["features.3.squeeze.bias"])


def test_whole_numbers_are_no_weights(state, tmp_path):
    changed = dict(state) | {"features.0.weight": torch.ones(64, 3, 3, 3, dtype=torch.int8)}
    torch.save(changed, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 of another kind: features.0.weight torch.int8 instead of torch.float32"):
        loaded(tmp_path / "w.pth")


def test_safetensors_are_loaded(state, tmp_path):
    save_file(dict(state), tmp_path / "w.safetensors")
    assert torch.equal(loaded(tmp_path / "w.safetensors").module.features[0].bias, state["features.0.bias"])


def test_what_does_not_fit_is_listed(state, tmp_path):
    changed = dict(state)
    del changed["features.0.weight"]
    changed["features.3.squeeze.bias"] = torch.zeros(5)
    changed["extra"] = torch.zeros(1)
    torch.save(changed, tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path / "w.pth")
    text = str(caught.value)
    assert "1 missing: features.0.weight; 1 unexpected: extra; " in text
    assert "1 of another shape: features.3.squeeze.bias 5 instead of 16" in text
    assert "model.match: order" not in text and "\n" not in text


def test_other_names_in_the_same_order_are_offered_and_taken(state, tmp_path):
    renamed = OrderedDict(
        (f"part{i}.{name.rpartition('.')[2]}", tensor) for i, (name, tensor) in enumerate(state.items())
    )
    torch.save(renamed, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"50 missing: .* 52 unexpected: .*model\.match: order loads them that way"):
        loaded(tmp_path / "w.pth")
    backbone = loaded(tmp_path / "w.pth", "order")
    assert torch.equal(backbone.module.features[12].expand3x3.weight, state["features.12.expand3x3.weight"])
    assert "52 tensors of" in backbone.notes[0] and "order" in backbone.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("swap", r"tensor 1 is 'p1.bias' in the file and 'a.weight' in the network"),
        ("shape", r"tensor 3, 'p2.weight', is 4 x 3 instead of 3 x 3 of 'b.weight'"),
        ("kind", r"tensor 2, 'p1.bias', is torch.int64 instead of torch.float32 of 'a.bias'"),
        ("count", r"the file has 3 tensors, the network 4"),
    ],
)
def test_order_matches_kinds_shapes_and_the_last_part_of_names(change, message):
    shapes = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": (3, 3), "b.bias": (3,)}
    network = {name: torch.zeros(shape) for name, shape in shapes.items()}
    file = [("p1.weight", torch.ones(3, 2)), ("p1.bias", torch.ones(3)), ("p2.weight", torch.ones(3, 3)),
            ("p2.bias", torch.ones(3))]  # fmt: skip
    found, _ = match(network, dict(file), how="order", free=(), source="w.pth")
    assert torch.equal(found["b.weight"], torch.ones(3, 3))
    if change == "swap":
        file[0], file[1] = file[1], file[0]
    elif change == "shape":
        file[2] = ("p2.weight", torch.ones(4, 3))
    elif change == "kind":
        file[1] = ("p1.bias", torch.ones(3, dtype=torch.int64))
    else:
        file.pop()
    with pytest.raises(ModelError, match=f"model.weights: w.pth does not fit by order: {message}"):
        match(network, dict(file), how="order", free=(), source="w.pth")


@dataclass
class Thing:
    weight: int = 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Thing(), "holds Python objects, which are not loaded since loading could run their code"),
        ({"epoch": 1}, "holds no named tensors; expected a state dict"),
        (b"no zip", "cannot be read|holds Python objects"),
        (b"", r"w\.pth' is empty; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"w\.pth is a Git LFS pointer, .*git lfs pull"),
        (None, "there is no file"),
    ],
)
def test_what_is_no_state_dict_is_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message) as caught:
        read(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "weights", "message"),
    [
        ("torchvision:resnet17", "none", r"torchvision has no classifier 'resnet17'; did you mean 'resnet1\d\d?'\?"),
        ("torchvision:fcn_resnet50", "none", "torchvision has no classifier 'fcn_resnet50'"),
        ("timm:resnet17", "none", "timm has no classifier 'resnet17'; did you mean"),
        ("torchvision:resnet50", "IMAGENET1K_V3", "known are IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"),
        ("timm:resnet18", "a9_in1k", "timm's resnet18 has no weights 'a9_in1k': known are a1_in1k, .*did you mean 'a"),
        ("torchvision:resnet18", "package:no-such-package/w.pth", "the package 'no-such-package' is not installed"),
    ],
)
def test_what_is_not_known_is_told_with_what_is(reference, weights, message):
    with pytest.raises(ModelError, match=message):
        model.load_backbone(reference, kind="image", weights=weights)


def test_a_download_that_fails_says_what_to_do_instead(monkeypatch):
    def fail(*_args, **_settings):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent-for-this-test")
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ModelError, match=r"IMAGENET1K_V1 of torchvision's alexnet cannot be downloaded: no route"):
        model.load_backbone("torchvision:alexnet", kind="image")


def test_preprocessing_is_that_of_the_weights():
    facts = families.image_backbone("torchvision:resnet50", size=None, weights="none").preprocessing
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert facts == Facts((224, 224), 232, "bilinear", mean, std, crop_offset="round")
    facts = families.image_backbone("timm:tf_efficientnet_lite0", size=None).preprocessing
    assert facts == Facts((224, 224), 256, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_offset="round")


def test_preprocessing_of_transformers_is_its_image_processors(tmp_path):
    folder = families.save_image_model("vit", tmp_path)
    facts = families.image_backbone(str(folder), size=None).preprocessing
    assert facts == Facts((32, 32), (32, 32), "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def test_an_image_processor_that_is_not_known_is_refused(tmp_path):
    folder = families.save_image_model("vit", tmp_path)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "OddImageProcessor"}')
    with pytest.raises(ModelError, match=r"model.backbone: .*'OddImageProcessor' is not known here"):
        families.image_backbone(str(folder), size=None)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"cannot load .*preprocessor_config\.json"):
        families.image_backbone(str(folder), size=None)


def test_a_damaged_checkpoint_is_no_backbone(tmp_path):
    built, backbone = families.image_classifier(NAME, size=48)
    built.save(tmp_path, backbone)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"model\.safetensors is cut short in its header \(3,000 bytes\)"):
        model.load_backbone(str(tmp_path), kind="image")


def test_a_recipe_changes_preprocessing():
    facts = families.image_backbone(NAME, size=112).preprocessing
    assert (facts.size, facts.resize) == ((112, 112), 128)
    facts = families.image_backbone(
        NAME, size=100, resize=100, interpolation="lanczos", mean=[0.1, 0.2, 0.3], std=[1, 2, 3]
    ).preprocessing
    assert facts == Facts((100, 100), 100, "lanczos", (0.1, 0.2, 0.3), (1, 2, 3), crop_offset="round")
    with pytest.raises(ModelError, match=r"preprocessing.resize: got 90 pixels, but 100 are then cut out"):
        families.image_backbone(NAME, size=100, resize=90)


@pytest.mark.parametrize("place", ["torchvision:vit_b_32", "vit"])
def test_a_size_that_a_network_does_not_take_is_refused(place, tmp_path):
    reference = place if ":" in place else str(families.save_image_model(place, tmp_path))
    own = 224 if ":" in place else 32
    with pytest.raises(ModelError, match=rf"does not take images of 64 x 64 pixels .* own size is {own} x {own}"):
        families.image_backbone(reference, size=64)


def test_timm_fits_a_transformer_to_another_size():
    backbone = families.image_backbone("timm:vit_tiny_patch16_224", size=48)
    assert backbone.module.pos_embed.shape == (1, 10, 192)


def test_an_encoder_without_a_classifier_is_a_backbone_too():
    backbone = families.image_backbone("timm:vit_small_patch14_dinov2", size=28)
    assert (backbone.n_features, backbone.last_layer.name) == (384, "head")


def test_random_weights_come_from_the_seed_and_say_so():
    first, same, other = (families.image_backbone(NAME, seed=seed) for seed in (1, 1, 2))
    assert first.notes == ("random weights",)
    assert model.weights_digest(first.module) == model.weights_digest(same.module)
    assert model.weights_digest(first.module) != model.weights_digest(other.module)


def test_batch_norms_of_random_weights_follow_quickly_and_those_of_pretrained_ones_as_published(tmp_path):
    def momenta(backbone):
        return {m.momentum for m in backbone.module.modules() if isinstance(m, torch.nn.BatchNorm2d)}

    published = models.mobilenet_v3_small(weights=None)
    save_file(published.state_dict(), tmp_path / "pretrained.safetensors")
    assert momenta(families.image_backbone(weights="none")) == {0.1}
    assert momenta(families.image_backbone(weights=str(tmp_path / "pretrained.safetensors"))) == {0.01}
    assert momenta(families.image_backbone("timm:tf_efficientnet_lite0")) == {0.1}, "0.01 there too"


def test_a_text_backbone_with_random_weights(pretrained):
    trained = model.load_backbone(str(pretrained("bert")))
    torch.manual_seed(5)
    untrained = model.load_backbone(str(pretrained("bert")), pretrained=False)
    assert untrained.pooling == trained.pooling
    assert model.weights_digest(untrained.module) != model.weights_digest(trained.module)


def test_texts_and_images_are_told_apart(pretrained, tmp_path):
    assert model.kind_of(str(pretrained("bert"))) == "text"
    assert model.kind_of(str(families.save_image_model("vit", tmp_path))) == "image"
    with pytest.raises(ModelError, match="'torchvision:resnet18' is a backbone of images, but the task takes texts"):
        model.load_backbone("torchvision:resnet18")
    with pytest.raises(ModelError, match="is a 'bert', for which transformers has no image classifier"):
        model.load_backbone(str(pretrained("bert")), kind="image")
