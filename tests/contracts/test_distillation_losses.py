"""Every loss of distillation is held to the same contract, and its values to formulas written out a second time."""

import inspect
import math

import numpy as np
import pytest
import torch

from tledge import plugins
from tledge.losses import distillation
from tledge.recipe.distillation import Distill

PACKAGE = distillation.__name__
ALL = plugins.names(PACKAGE)
KINDS = ("logits", "hidden_states", "feature_maps", "attentions", "values")
ON_LOGITS = [name for name in ALL if plugins.load(PACKAGE, name).NEEDS == "logits"]
INSIDE = [name for name in ALL if name not in ON_LOGITS]
MASKED = [name for name in INSIDE if name != "feature_maps"]
CASES = [(name, kind) for name in ON_LOGITS for kind in plugins.load(PACKAGE, name).PROBLEM_TYPES]
CASES += [(name, None) for name in INSIDE]
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
TARGETS = torch.tensor([0, 2, 1, 2])
OF_ANSWERS = torch.tensor([[2, 3, 0, 2, 4], [0, 0, 0, 1, 5], [-2, -1, -7, -3, 3], [6, 6, 0, 6, 1]])
"""What windows of seven tokens learn: start, end, none, where the context begins, and how long it is."""
SHAPES = {
    "hidden_states": (4, 5, 8), "feature_maps": (4, 6, 4, 4), "attentions": (4, 2, 5, 5), "values": (4, 5, 8),
}  # fmt: skip


def pair(name, kind, *, seed=0, dtype=torch.float32, **shapes):
    """The student's and the teacher's tensors."""
    needs = plugins.load(PACKAGE, name).NEEDS
    of_logits = {"regression": (4, 1), "question_answering": (4, 7, 2)}.get(kind, (4, 3))
    shape = of_logits if needs == "logits" else SHAPES[needs]
    made = []
    for i, who in enumerate(("student", "teacher")):
        values = torch.randn(shapes.get(who, shape), generator=torch.Generator().manual_seed(2 * seed + i)) * 2
        made.append((values.softmax(-1) if needs == "attentions" else values).to(dtype))
    return made


def targets_of(kind):
    return OF_ANSWERS if kind == "question_answering" else TARGETS


def compute(name, kind, student, teacher, *, temperature=2.0, mask=MASK, **changes):
    loss = plugins.load(PACKAGE, name).loss
    if kind is None:
        return loss(student, teacher, mask if name in MASKED else None)
    options = {"temperature": temperature, "problem_type": kind, "targets": targets_of(kind)} | changes
    return loss(student, teacher, **options)


def test_the_losses_are_found():
    assert ALL == [
        "attention", "dist", "dkd", "feature_maps", "hidden_cosine", "soft_targets", "value_relations",
    ]  # fmt: skip
    assert {plugins.load(PACKAGE, name).NEEDS for name in ALL} == set(KINDS)


@pytest.mark.parametrize("name", ALL)
def test_takes_the_arguments_of_the_contract(name):
    module = plugins.load(PACKAGE, name)
    parameters = list(inspect.signature(module.loss).parameters)
    if name in ON_LOGITS:
        assert parameters == ["student", "teacher", "temperature", "problem_type", "targets", "scale"]
    else:
        assert parameters == ["student", "teacher", "mask"]
        assert module.LAYERS in ("all", "last")
    assert (module.__doc__ and "(rows,) float32" in module.loss.__doc__) or "(batch,) float32" in module.loss.__doc__
    assert f"`{name}`" in Distill.model_fields["losses"].description


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_is_nothing_for_a_student_like_its_teacher_and_more_for_others(name, kind):
    student, teacher = pair(name, kind)
    same = compute(name, kind, teacher.clone(), teacher)
    assert same.shape == (4,)
    torch.testing.assert_close(same, torch.zeros(4), rtol=0, atol=2e-6)
    assert (compute(name, kind, student, teacher) > 1e-3).all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_its_gradient_leads_the_student_to_the_teacher(name, kind):
    student, teacher = pair(name, kind)
    student.requires_grad_()
    before = compute(name, kind, student, teacher).sum()
    before.backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0
    after = compute(name, kind, student.detach() - 0.01 * student.grad, teacher).sum()
    assert after < before


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def divergence(p, q):
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def by_hand(name, kind, student, teacher, temperature=2.0):
    """One value a row, with numpy and loops."""
    s, t = student.double().numpy(), teacher.double().numpy()
    mask = MASK.numpy().astype(bool)
    rows = range(4)
    T = temperature  # noqa: N806
    if name == "soft_targets" and kind == "regression":
        return [(s[i, 0] - t[i, 0]) ** 2 for i in rows]
    if name == "soft_targets" and kind == "multi_label_classification":
        p, q = (1 / (1 + np.exp(-x / T)) for x in (t, s))
        both = [[divergence([p[i, j], 1 - p[i, j]], [q[i, j], 1 - q[i, j]]) for j in range(3)] for i in rows]
        return [T * T * np.mean(each) for each in both]
    if kind == "question_answering":
        allowed = [[0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 4, 5, 6], [0, 6]]
        return [
            T * T * np.mean([divergence(softmax(t[i, a, k] / T), softmax(s[i, a, k] / T)) for k in (0, 1)])
            for i, a in enumerate(allowed)
        ]
    if kind is not None:
        p, q = softmax(t / T), softmax(s / T)
    if name == "soft_targets":
        return [T * T * divergence(p[i], q[i]) for i in rows]
    if name == "dkd":
        values = []
        for i, target in enumerate(TARGETS.tolist()):
            others = [j for j in range(3) if j != target]
            binary = divergence([p[i, target], 1 - p[i, target]], [q[i, target], 1 - q[i, target]])
            rest = divergence(p[i, others] / p[i, others].sum(), q[i, others] / q[i, others].sum())
            values.append(T * T * (binary + 8 * rest))
        return values
    if name == "dist":
        columns = np.mean([np.corrcoef(p[:, j], q[:, j])[0, 1] for j in range(3)])
        return [1 - np.corrcoef(p[i], q[i])[0, 1] + 1 - columns for i in rows]
    if name == "hidden_cosine":
        cosine = (s * t).sum(-1) / np.linalg.norm(s, axis=-1) / np.linalg.norm(t, axis=-1)
        return [np.mean(1 - cosine[i][mask[i]]) for i in rows]
    if name == "feature_maps":
        return [np.mean((s[i] - t[i]) ** 2) for i in rows]
    if name == "attention":
        return [np.mean((s[i] - t[i])[:, mask[i]][:, :, mask[i]] ** 2) for i in rows]
    assert name == "value_relations"
    values = []
    for i in rows:
        found = []
        for head in range(8):  # 8 heads of one dimension each
            p, q = (softmax(np.outer(x[i][mask[i], head], x[i][mask[i], head])) for x in (t, s))
            found += [divergence(p[k], q[k]) for k in range(len(p))]
        values.append(np.mean(found))
    return values


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_value_is_that_of_the_formula(name, kind):
    student, teacher = pair(name, kind, seed=3)
    expected = torch.tensor(by_hand(name, kind, student, teacher), dtype=torch.float32)
    torch.testing.assert_close(compute(name, kind, student, teacher), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_half_precision_is_compared_in_float32(name, kind):
    half = pair(name, kind, dtype=torch.bfloat16)
    value = compute(name, kind, *half)
    assert value.dtype == torch.float32
    assert torch.equal(value, compute(name, kind, *(each.float() for each in half)))


@pytest.mark.parametrize("name", MASKED)
def test_padding_does_not_count(name):
    student, teacher = pair(name, None)
    expected = compute(name, None, student, teacher)
    for tensor in (student, teacher):
        for row, tokens in enumerate(MASK):
            if name == "attention":
                tensor[row, :, tokens == 0] = 7.0
                tensor[row, :, :, tokens == 0] = 7.0
            else:
                tensor[row, tokens == 0] = 7.0 * torch.randn(8)
    torch.testing.assert_close(compute(name, None, student, teacher), expected)
    assert not torch.allclose(compute(name, None, student, teacher, mask=torch.ones_like(MASK)), expected)


@pytest.mark.parametrize("name", MASKED)
def test_without_a_mask_every_token_counts(name):
    student, teacher = pair(name, None)
    everything = compute(name, None, student, teacher, mask=torch.ones_like(MASK))
    torch.testing.assert_close(compute(name, None, student, teacher, mask=None), everything)


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case[0] != "dist"])
def test_a_row_counts_alike_in_every_batch(name, kind):
    student, teacher = pair(name, kind)
    whole = compute(name, kind, student, teacher)
    rows = slice(1, 3)
    own = {"targets": targets_of(kind)[rows]} if kind else {"mask": MASK[rows]}
    part = compute(name, kind, student[rows], teacher[rows], **own)
    torch.testing.assert_close(part, whole[rows])


@pytest.mark.parametrize("name", ON_LOGITS)
def test_a_high_temperature_leaves_gradients_of_the_same_size(name):
    kind = "single_label_classification"
    sizes = []
    for temperature in (1.0, 20.0):
        student, teacher = pair(name, kind)
        (gradient,) = torch.autograd.grad(
            compute(name, kind, student.requires_grad_(), teacher, temperature=temperature).sum(), student
        )
        sizes.append(gradient.abs().mean().item())
    assert 0.05 < sizes[1] / sizes[0] < 20


def test_soft_targets_of_numbers_have_the_scale_of_the_hard_loss():
    student, teacher = pair("soft_targets", "regression")
    plain = compute("soft_targets", "regression", student, teacher)
    scaled = compute("soft_targets", "regression", student, teacher, scale=torch.tensor([0.1]))
    torch.testing.assert_close(scaled, plain / 100)


def test_decoupled_parts_with_the_teachers_own_weight_are_soft_targets(monkeypatch):
    kind = "single_label_classification"
    student, teacher = pair("dkd", kind)
    module = plugins.load(PACKAGE, "dkd")
    soft = compute("soft_targets", kind, student, teacher)
    sure = (teacher / 2).softmax(-1).gather(1, TARGETS[:, None])[:, 0]
    for row in range(4):
        monkeypatch.setattr(module, "BETA", 1 - sure[row].item())
        torch.testing.assert_close(compute("dkd", kind, student, teacher)[row], soft[row], rtol=1e-4, atol=1e-5)


def test_correlations_do_not_mind_a_row_without_neighbours():
    student, teacher = (each[:1] for each in pair("dist", "single_label_classification"))
    value = compute("dist", "single_label_classification", student, teacher)
    p, q = ((each / 2).softmax(-1).numpy()[0] for each in (student, teacher))
    assert value.item() == pytest.approx(1 - np.corrcoef(p, q)[0, 1], rel=1e-4)


def test_feature_maps_of_other_sizes_are_averaged_to_the_smaller():
    student, teacher = pair("feature_maps", None, student=(4, 6, 2, 2))
    small = teacher.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    expected = (student - small).square().mean((1, 2, 3))
    torch.testing.assert_close(compute("feature_maps", None, student, teacher), expected)
    torch.testing.assert_close(compute("feature_maps", None, teacher, student), expected)


def test_attention_maps_of_other_head_counts_are_compared_by_their_means():
    student, teacher = pair("attention", None, student=(4, 1, 5, 5))
    expected = compute("attention", None, student, teacher.mean(1, keepdim=True))
    torch.testing.assert_close(compute("attention", None, student, teacher), expected)


@pytest.mark.parametrize(("ours", "theirs", "heads"), [(8, 8, 8), (24, 48, 12), (312, 768, 12), (32, 20, 4), (7, 5, 1)])
def test_value_relations_take_widths_that_differ(ours, theirs, heads):
    from tledge.losses.distillation.value_relations import relation_heads

    student, teacher = pair("value_relations", None, student=(4, 5, ours), teacher=(4, 5, theirs))
    assert compute("value_relations", None, student, teacher).shape == (4,)
    assert relation_heads(ours, theirs) == relation_heads(theirs, ours) == heads
