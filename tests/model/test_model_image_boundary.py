import copy

import families
import pytest
import torch
from torch import nn

from tledge import model
from tledge.model import boundary

REFERENCES = (
    "torchvision:resnet18",
    "torchvision:squeezenet1_1",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x0_5",
    "timm:vit_tiny_patch16_224",
    "timm:tf_efficientnet_lite0",
)


@pytest.mark.parametrize("reference", REFERENCES)
def test_what_is_above_any_boundary_gives_the_same_from_activations(reference):
    built, _ = families.image_classifier(reference, size=32)
    inputs = built.example(2)
    count = len(built.blocks())
    with torch.no_grad():
        expected = built(**inputs)["logits"]
        for level in {1, count // 2, count - 1, count}:
            assert boundary.cuttable(built, level)
            between = boundary.activations(built, level, inputs)
            above = boundary.AboveBoundary(built, level)
            torch.testing.assert_close(above(between)["logits"], expected)
            assert (above(torch.zeros_like(between))["logits"] - expected).abs().max() > 0
            above.restore()
        assert torch.equal(built(**inputs)["logits"], expected)


@pytest.mark.parametrize("family", ["vit", "resnet", "convnext"])
def test_classifiers_of_transformers_are_cut_too(family, tmp_path):
    built, _ = families.image_classifier(str(families.save_image_model(family, tmp_path)), size=None)
    assert [boundary.cuttable(built, level) for level in range(1, len(built.blocks()))] == [True] * (
        len(built.blocks()) - 1
    )


def test_gradients_from_activations_are_those_of_the_whole_model():
    built, _ = families.image_classifier("torchvision:resnet18", dropout_prob=0.0)
    plan = model.freeze(built.backbone, "partial", "layer4", sample=built.example(1))
    inputs = built.example(4)
    whole = copy.deepcopy(built).train()
    whole(**inputs)["logits"].square().sum().backward()
    between = boundary.activations(built.eval(), plan.boundary, inputs).detach()
    above = boundary.AboveBoundary(built, plan.boundary).train()
    above(between)["logits"].square().sum().backward()
    above.restore()
    wanted = {n: p.grad for n, p in whole.named_parameters() if p.grad is not None}
    got = {n: p.grad for n, p in built.named_parameters() if p.grad is not None}
    assert wanted.keys() == got.keys() and "backbone.layer4.0.conv1.weight" in got
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-4)


def test_frozen_blocks_are_neither_stored_nor_in_the_optimizer():
    built, _ = families.image_classifier("torchvision:squeezenet1_1")
    above = boundary.AboveBoundary(built, 5)
    assert {name.split(".")[3] for name in above.state_dict() if "backbone" in name} == {"9", "10", "11", "12"}
    above.restore()
    assert len(built.backbone.state_dict()) == 50


class Skipping(nn.Module):
    """The first block's output goes around the second one, to the third."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        first = self.first(x)
        return (self.third(self.second(first)) + first).mean((2, 3))


def test_a_skip_connection_over_the_boundary_is_noticed():
    built, _ = families.image_classifier("torchvision:squeezenet1_1", size=32)
    built.backbone = Skipping()
    built.classifier = nn.Linear(4, 2)
    assert [boundary.cuttable(built, level) for level in (1, 2, 3)] == [True, False, False]
    with torch.no_grad():
        assert built(**built.example(2))["logits"].shape == (2, 2)


def test_a_second_classifier_trains_above_a_boundary_and_is_off_where_all_below_it_is_frozen():
    built, _ = families.image_classifier("torchvision:googlenet")
    names = [block.name for block in built.blocks()]
    for first, has_second in (("inception4d", True), ("inception4e", False)):
        plan = model.freeze(built.backbone, "partial", first, sample=built.example(1))
        assert plan.boundary == names.index(first)
        assert boundary.cuttable(built, plan.boundary)
        between = boundary.activations(built.eval(), plan.boundary, built.example(2)).detach()
        above = boundary.AboveBoundary(built, plan.boundary).train()
        assert ("aux_logits" in above(between)) is has_second
        assert "aux_logits" not in above.eval()(between)
        above.restore()
