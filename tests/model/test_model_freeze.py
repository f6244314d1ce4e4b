import families
import pytest
from torch import nn

from tledge.errors import ModelError
from tledge.model import describe, freeze

BLOCKS = {"bert": "encoder.layer", "distilbert": "transformer.layer", "roberta": "encoder.layer", "gpt2": "h"}


def backbone(family, n_layers=4):
    module = families.module(family, n_layers=n_layers)
    return module.transformer if family == "gpt2" else module


def trains(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_probe_trains_nothing_and_full_everything(family):
    module = backbone(family)
    names = {name for name, _ in module.named_parameters()}
    total = sum(p.numel() for p in module.parameters())
    plan = freeze(module, "full")
    assert trains(module) == names
    assert (plan.trainable, plan.total, plan.boundary) == (total, total, None)
    plan = freeze(module, "probe")
    assert trains(module) == set()
    assert (plan.trainable, plan.total) == (0, total)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_partial_trains_the_last_blocks_and_what_comes_after(family, count):
    module = backbone(family)
    plan = freeze(module, "partial", count)
    prefix = BLOCKS[family]
    expected = {n for n, _ in module.named_parameters() for i in range(4 - count, 4) if n.startswith(f"{prefix}.{i}.")}
    after = {n for n, _ in module.named_parameters() if n.startswith(("pooler.", "ln_f."))}
    assert trains(module) == expected | after
    assert bool(after) == (family != "distilbert")
    assert plan.boundary == 4 - count
    assert plan.trainable == sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_more_blocks_than_there_are_is_an_error():
    with pytest.raises(ModelError, match=r"finetune.unfreeze: got 5, but the backbone has 4 blocks; give .* 1 to 4"):
        freeze(backbone("bert"), "partial", 5)


@pytest.mark.parametrize(
    ("pattern", "boundary"),
    [
        ("encoder.layer.2.*", 2),
        ("encoder.layer.[13].*", 1),
        ("pooler.*", 4),
        ("*.bias", None),
        ("embeddings.*", None),
        ("*", None),
    ],
)
def test_a_pattern_trains_the_names_it_matches(pattern, boundary):
    module = backbone("bert")
    plan = freeze(module, "partial", pattern)
    assert plan.boundary == boundary
    assert trains(module)
    part = pattern.replace("[13]", "1").strip("*")
    assert any(part in name for name in trains(module))
    assert pattern == "*" or trains(module) != {name for name, _ in module.named_parameters()}


def test_a_pattern_without_a_match_says_what_names_look_like():
    with pytest.raises(ModelError) as caught:
        freeze(backbone("bert"), "partial", "encoder.layers.3.output.dense.weight")
    assert str(caught.value) == (
        "finetune.unfreeze: the pattern 'encoder.layers.3.output.dense.weight' matches no parameter of the backbone, "
        "such as 'pooler.dense.bias'; did you mean 'encoder.layer.3.output.dense.weight'?"
    )


def test_a_second_strategy_undoes_the_first():
    module = backbone("bert")
    freeze(module, "probe")
    freeze(module, "partial", "pooler.*")
    assert trains(module) == {"pooler.dense.weight", "pooler.dense.bias"}
    freeze(module, "full")
    assert len(trains(module)) == len(list(module.parameters()))


def test_gpt2s_final_norm_comes_after_the_blocks():
    module = backbone("gpt2")
    freeze(module, "partial", 1)
    parts = describe(module)
    assert [part.name for part in parts] == ["wte", "wpe", "h.0", "h.1", "h.2", "h.3", "ln_f"]
    assert [part.trainable > 0 for part in parts] == [False, False, False, False, False, True, True]
    assert sum(part.parameters for part in parts) == sum(p.numel() for p in module.parameters())


def test_describe_goes_from_the_embeddings_to_the_pooler():
    parts = [part.name for part in describe(backbone("bert"))]
    assert parts == ["embeddings", *(f"encoder.layer.{i}" for i in range(4)), "pooler"]


def test_a_backbone_without_blocks_can_be_probed_or_trained_whole():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert freeze(module, "probe").trainable == 0
    assert freeze(module, "full").trainable == 12
    with pytest.raises(ModelError, match="no list of blocks was found in Sequential; use strategy probe or full"):
        freeze(module, "partial", 1)
