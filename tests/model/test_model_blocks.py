import families
import pytest
import torch
from torch import nn

from tledge import model
from tledge.errors import ModelError
from tledge.model.blocks import BEFORE, blocks, levels

SAMPLE = {"pixel_values": torch.zeros(1, 3, 64, 64)}


def names(reference, **changes):
    built, _ = families.image_classifier(reference, **changes)
    return built, [block.name for block in built.blocks()]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("torchvision:resnet18", ["conv1", *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1))]),
        ("torchvision:squeezenet1_1", [f"features.{i}" for i in (0, 3, 4, 6, 7, 9, 10, 11, 12)]),
        ("torchvision:mobilenet_v3_small", [*(f"features.{i}" for i in range(13)), "classifier.0"]),
    ],
)
def test_blocks_go_from_the_stem_to_the_top(reference, expected):
    built, found = names(reference)
    assert found == expected
    inside = [name for block in built.blocks() for name in block.parameters]
    assert sorted(inside) == sorted(name for name, _ in built.backbone.named_parameters())


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("vit", ["vit.embeddings", *(f"vit.layers.{i}" for i in range(3))]),
        (
            "resnet",
            ["resnet.embedder", *(f"resnet.encoder.stages.{i}.layers.{j}" for i, j in ((0, 0), (1, 0), (1, 1)))],
        ),
    ],
)
def test_blocks_of_transformers_are_found_alike(family, expected, tmp_path):
    _, found = names(str(families.save_image_model(family, tmp_path)), size=None)
    assert found == expected


def test_norms_and_pools_join_the_block_before_them():
    built, _ = names("torchvision:resnet18")
    first = built.blocks()[0]
    assert [type(m).__name__ for m in first.modules] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert first.parameters == ("conv1.weight", "bn1.weight", "bn1.bias")


def test_what_is_in_no_block_comes_before_all():
    built, _ = families.image_classifier("timm:vit_tiny_patch16_224", size=32)
    level = levels(built.backbone, built.blocks())
    assert {name for name, number in level.items() if number == BEFORE} == {"cls_token", "pos_embed"}
    assert level["patch_embed.proj.weight"] == 0
    assert level["norm.weight"] == level["blocks.11.attn.qkv.weight"] == len(built.blocks()) - 1


class Branches(nn.Module):
    """A block whose output is made outside of its parts."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.right = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.right(self.left(x)).add_(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleDict({"a": Branches(), "b": Branches()})
        self.stem = nn.Conv2d(3, 4, 3)
        self.after = nn.GroupNorm(2, 4)

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages.values():
            x = self.after(stage(x))
        return x.mean((2, 3))


def test_the_order_is_that_of_running_and_a_residual_block_stays_whole():
    net = Net()
    found = blocks(net, SAMPLE)
    assert [block.name for block in found] == ["stem", "stages.a", "stages.b"]


def test_looking_for_blocks_changes_nothing():
    backbone = families.image_backbone("torchvision:googlenet", size=64)
    before = model.weights_digest(backbone.module)
    backbone.module.train().conv2.eval()
    blocks(backbone.module, SAMPLE)
    assert model.weights_digest(backbone.module) == before
    assert backbone.module.training and backbone.module.conv1.bn.training and not backbone.module.conv2.bn.training
    assert not backbone.module.conv1._forward_hooks


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"unfreeze": 1}, 8),
        ({"unfreeze": "layer4"}, 7),
        ({"unfreeze": "layer4.1"}, 8),
        ({"frozen": "layer3"}, 7),
        ({"frozen": 2}, 2),
        ({"frozen": "layer4"}, 9),
        ({"unfreeze": 9}, 0),
    ],
)
def test_a_number_or_a_name_says_where_training_begins(settings, first):
    backbone = families.image_backbone("torchvision:resnet18").module
    plan = model.freeze(backbone, "partial", **settings, sample=SAMPLE)
    level = levels(backbone, blocks(backbone, SAMPLE))
    assert {n for n, p in backbone.named_parameters() if p.requires_grad} == {n for n, i in level.items() if i >= first}
    assert plan.boundary == first
    assert plan.trainable == sum(p.numel() for p in backbone.parameters() if p.requires_grad)


def test_a_pattern_trains_what_it_matches_alone():
    backbone = families.image_backbone("torchvision:resnet18").module
    plan = model.freeze(backbone, "partial", "layer4.*.conv?.weight", sample=SAMPLE)
    trained = [n for n, p in backbone.named_parameters() if p.requires_grad]
    assert trained == [f"layer4.{i}.conv{j}.weight" for i in (0, 1) for j in (1, 2)]
    assert plan.boundary == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"unfreeze": "layer5"},
            r"finetune.unfreeze: the pattern 'layer5' matches no parameter .* did you mean 'layer",
        ),
        ({"frozen": "layr3"}, r"finetune.freeze: the backbone has no block 'layr3'; did you mean 'layer3.\d'\?"),
        ({"frozen": 10}, "finetune.freeze: got 10, but the backbone has 9 blocks"),
        ({"unfreeze": 10}, "finetune.unfreeze: got 10, but the backbone has 9 blocks"),
    ],
)
def test_names_and_numbers_that_are_not_there(settings, message):
    backbone = families.image_backbone("torchvision:resnet18").module
    with pytest.raises(ModelError, match=message):
        model.freeze(backbone, "partial", **settings, sample=SAMPLE)


def test_a_name_of_a_text_block_works_too():
    module = families.module("bert", n_layers=4)
    plan = model.freeze(module, "partial", "encoder.layer.2")
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert plan.boundary == 2
    assert {n.split(".")[2] for n in trained if n.startswith("encoder")} == {"2", "3"}
    assert any(n.startswith("pooler") for n in trained)


def test_a_second_classifier_hangs_on_the_block_whose_output_it_takes():
    backbone = families.image_backbone("torchvision:googlenet").module
    level = levels(backbone, blocks(backbone, SAMPLE))
    found = [block.name for block in blocks(backbone, SAMPLE)]
    assert {found[i] for n, i in level.items() if n.startswith("aux2.")} == {"inception4d"}
    parts = {part.name: part.parameters for part in model.describe(backbone, SAMPLE)}
    assert parts["aux2"] == sum(p.numel() for p in backbone.aux2.parameters())
    assert sum(parts.values()) == sum(p.numel() for p in backbone.parameters())
