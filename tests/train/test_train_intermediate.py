"""What lies inside of tiny transformers and nets of pictures: found, compared and learnt."""

import copy

import families
import pytest
import torch
from tiny_seer import Pictures, Seer

from tledge import model, train
from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.losses.distillation import hidden_cosine
from tledge.model.blocks import blocks
from tledge.train.intermediate import Inside, eager_attention, listening, places
from tledge.train.row_distillation import Distillation


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def made(pretrained, tmp_path):
    """`made("bert", layers)` is a teacher, a student with these layers, their rows and their pairing."""

    def make(family, layers=(0, 2)):
        taught, backbone = families.classifier(pretrained(family))
        encoder = families.encoder(taught, backbone, tmp_path / "inputs")
        lessons = model.distillation_sets(encoder, families.rows(24, seed=1), families.rows(16, seed=2))
        student = model.from_layers(taught, layers)
        return student, taught, (lessons.train, lessons.validation), pairing_of(student, taught, layers)

    return make


def pairing_of(student, teacher, layer_map):
    ours, theirs = (tuple(b.modules[-1] for b in blocks(each)) for each in (student, teacher))
    return train.Pairing(ours, theirs, tuple(layer_map))


def in_training(module):
    """The module in training, its student without dropout."""
    module.train().student.eval()
    return module


INSIDE = ("hidden_cosine", "attention", "value_relations")


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_copy_has_nothing_to_learn_of_what_lies_inside_and_a_stranger_has(family, made):
    student, taught, rows, pairing = made(family, (0, 1, 2))
    batch = rows[0].batch(list(range(6)))
    batch.pop("labels")
    values = []
    for _ in range(2):
        with eager_attention(student, taught):
            inside = Inside(INSIDE, pairing, lambda: student(**batch), lambda: taught(**batch), random_seed=0)
            values.append(in_training(Distillation(student, taught, inside))(**batch)["inside"])
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    for name in INSIDE:
        assert values[0][name].shape == (6,)
        torch.testing.assert_close(values[0][name], torch.zeros(6), atol=1e-5, rtol=0)
        assert (values[1][name] > 1e-5).all()


def test_what_is_heard_is_what_the_blocks_gave(made):
    student, taught, rows, pairing = made("bert", (0, 2))
    batch = rows[0].batch([0, 1, 2])
    batch.pop("labels")
    inside = Inside(["hidden_cosine"], pairing, lambda: student(**batch), lambda: taught(**batch), random_seed=0)
    states = [each.backbone(**batch, output_hidden_states=True).hidden_states for each in (student, taught)]
    values = in_training(Distillation(student, taught, inside))(**batch)["inside"]["hidden_cosine"]
    mask = batch["attention_mask"]
    expected = [hidden_cosine.loss(states[0][i], states[1][j], mask) for i, j in ((1, 1), (2, 3))]
    torch.testing.assert_close(values, torch.stack(expected).mean(0), rtol=1e-4, atol=1e-6)


VALUES = {
    "bert": lambda layer, states: layer.attention.self.value(states),
    "distilbert": lambda layer, states: layer.attention.v_lin(states),
    "gpt2": lambda layer, states: layer.attn.c_attn(layer.ln_1(states)).split(32, -1)[2],
}


@pytest.mark.parametrize("family", VALUES)
def test_attention_weights_and_values_are_those_of_the_model(family, made):
    _, taught, rows, _ = made(family)
    batch = rows[0].batch([0, 1, 2])
    batch.pop("labels")
    layers = [b.modules[-1] for b in taught.blocks()]
    with eager_attention(taught):
        found = {kind: places(kind, layers, lambda: taught(**batch)) for kind in ("attentions", "values")}
        with torch.no_grad(), listening(found) as heard:
            reference = taught.backbone(**batch, output_attentions=True).attentions
            first = heard["values"][0].clone()
    for ours, theirs in zip(heard["attentions"], reference, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        states = taught.backbone(**batch, output_hidden_states=True).hidden_states[0]
        torch.testing.assert_close(first, VALUES[family](layers[0], states), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_all_that_lies_inside_is_learnt_and_the_models_are_left_as_they_were(family, made, distill):
    student, taught, rows, pairing = made(family)
    before = [each.config._attn_implementation for each in (student, taught)]
    weights = dict.fromkeys((*INSIDE, "soft_targets", "dist", "dkd", "hard_labels"), 0.5)
    fitted = distill(student, taught, rows, pairing=pairing, losses=weights, lr=1e-3, epochs=3)
    assert fitted.curve[-1].train_loss < fitted.curve[0].train_loss
    assert [each.config._attn_implementation for each in (student, taught)] == before
    assert not any(m._forward_hooks for each in (student, taught) for m in each.modules())
    assert {name.partition(".")[0] for name in student.state_dict()} == {
        name.partition(".")[0] for name in taught.state_dict()
    }


def test_a_thinner_student_learns_hidden_states_through_projections(made, distill, tmp_path, toys):
    _, taught, rows, _ = made("bert")
    folder = families.save("bert", tmp_path / "thin", n_layers=2, hidden_size=16)

    def fresh(seed=1):
        student, _ = families.classifier(folder, seed=seed)
        return student, pairing_of(student, taught, (0, 2))

    whole, pairing = fresh()
    assert train.has_hidden(whole, taught, rows[0], pairing)
    first = distill(whole, taught, rows, pairing=pairing, folder="whole", lr=1e-3)
    without, pairing = fresh()
    distill(without, taught, rows, pairing=pairing, folder="without", lr=1e-3, losses={"soft_targets": 1.0})
    assert not same(whole, without)
    parted, pairing = fresh()
    with pytest.raises(toys.Interrupted):
        distill(parted, taught, rows, pairing=pairing, folder="parted", lr=1e-3, progress=toys.interrupt_at(5))
    parted, pairing = fresh(seed=5)
    again = distill(parted, taught, rows, pairing=pairing, folder="parted", lr=1e-3)
    assert same(whole, parted)
    assert again.curve == first.curve


def with_own_tokens(rows):
    """Rows of texts that the teacher reads with a tokenizer of its own, which gives the same numbers here."""

    class Both(Columns):
        lengths = rows.lengths

        def __len__(self):
            return len(rows)

        def take(self, numbers, seed):
            batch = rows.take(numbers, seed)
            return batch | {f"teacher_{name}": each for name, each in batch.items() if name != "labels"}

    return Both()


def test_a_teacher_with_its_own_tokens_teaches_answers_alone(made, distill):
    student, taught, rows, pairing = made("bert")
    own = (with_own_tokens(rows[0]), rows[1])
    assert train.has_hidden(student, taught, rows[0], pairing)
    assert not train.has_hidden(student, taught, own[0], pairing)
    again = copy.deepcopy(student)
    distill(student, taught, own, pairing=pairing, folder="own", lr=1e-3)
    answers = {"soft_targets": 1.0, "hard_labels": 0.5}
    distill(again, taught, rows, pairing=pairing_of(again, taught, (0, 2)), folder="same", lr=1e-3, losses=answers)
    assert same(student, again)
    for name in INSIDE:
        with pytest.raises(
            TrainError, match=rf"^distill\.losses: {name} compares .* read the same tokens; remove {name}"
        ):
            distill(student, taught, own, pairing=pairing, folder="no", losses={name: 1.0})


def of_images(student, teacher):
    return train.Pairing((student.stem, student.top), (teacher.stem, teacher.top), (0, 1))


def test_feature_maps_of_other_channels_and_sizes_are_learnt(distill):
    student, teacher = Seer(channels=3, stride=2), Seer(channels=6, seed=4)
    before = state(student)
    rows = (Pictures(64, 1), Pictures(32, 2))
    pairing = of_images(student, teacher)
    fitted = distill(student, teacher, rows, pairing=pairing, losses={"feature_maps": 1.0}, lr=0.02, epochs=6)
    assert fitted.curve[-1].train_loss < 0.7 * fitted.curve[0].train_loss
    assert not torch.equal(before["top.0.weight"], student.top[0].weight)
    assert torch.equal(before["head.weight"], student.head.weight)  # nobody said anything about answers
    assert set(student.state_dict()) == set(before)


def test_blocks_that_do_not_fit_a_loss_are_told(made, distill):
    student, taught, rows, pairing = made("bert")
    with pytest.raises(TrainError, match=r"^distill\.losses: feature_maps compares feature maps .* \(2, \d+, 32\)"):
        distill(student, taught, rows, pairing=pairing, losses={"feature_maps": 1.0})
    seers = Seer(), Seer(seed=1)
    photos = (Pictures(16, 1), Pictures(16, 2))
    with pytest.raises(TrainError, match=r"^distill\.losses: value_relations compares values, for which both must"):
        distill(*seers, photos, pairing=of_images(*seers), losses={"value_relations": 1.0})
    with pytest.raises(TrainError, match=r"^distill\.losses: feature_maps compares blocks, and these models have none"):
        distill(*seers, photos, pairing=None, losses={"feature_maps": 1.0})
