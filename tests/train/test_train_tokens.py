"""Training with a label for each token: what is counted, and that windows, teachers and features fit together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from span_project import save_backbone
from torch.nn import functional as F

from tledge import inputs, losses, model, plugins, tasks
from tledge import train as training
from tledge.batches import Beside, TokenLabels, Tokens, Values
from tledge.batches.texts import padded_width
from tledge.errors import ModelError
from tledge.progress import silent
from tledge.recipe.schema import Finetune
from tledge.tasks import _spans
from tledge.train.objective import of_tokens
from tledge.train.row_distillation import distillation_loss

TASK = tasks.load("token_classification")
LABELS = ("a", "b")
TEXTS = ["abc de fgh ij ab", "de", "abc abc fgh de ij abc de fgh", "ij"] * 6
SPANS = [[0, 0, 3], [], [0, 4, 7, 1, 12, 17], [1, 0, 2]] * 6
CROSS_ENTROPY = plugins.load(losses.__name__, "cross_entropy").loss
BINARY = plugins.load(losses.__name__, "binary_cross_entropy").loss


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spans") / "backbone"
    save_backbone(folder)
    return str(folder)


def classifier_of(backbone, folder):
    """A model of tags, and what reads texts for it in windows of 12 tokens."""
    torch.manual_seed(0)
    built = model.build(
        model.load_backbone(backbone),
        task="token_classification",
        optimum_task=TASK.OPTIMUM_TASK,
        problem_type=TASK.PROBLEM_TYPE,
        labels=TASK.output_names(LABELS),
        pooling="none",
        max_length=12,
        dropout_prob=0.0,
        head_hidden_size=None,
        windows={"stride": 3, "aggregation": "first"},
    )
    built.save_inputs(folder, model.load_backbone(backbone))
    return built, inputs.load("words", folder)


def rows_of(encoder, texts=TEXTS, spans=SPANS):
    targets = TASK.targets(spans, len(LABELS))
    cuts = encoder.cuts(texts)
    aligned = [
        row
        for cut, target in zip(cuts, targets, strict=True)
        for row in _spans.align(target, cut, tagged_tokens="first", aggregation="first")
    ]
    return model.Windows(texts, targets, encoder, cuts, aligned)


def test_labels_below_zero_count_for_no_loss():
    logits, labels = torch.randn(3, 5, 4), torch.tensor([[0, 1, -100, 3, -100], [-100] * 5, [2, 2, 2, 2, -100]])
    found = training.supervised(CROSS_ENTROPY)({"logits": logits}, labels, None)
    assert float(found) == pytest.approx(float(F.cross_entropy(logits.flatten(0, 1), labels.flatten())))
    halves = [
        training.supervised(CROSS_ENTROPY)({"logits": logits[part]}, labels[part], 7)
        for part in (slice(0, 1), slice(1, 3))
    ]
    assert float(sum(halves)) == pytest.approx(float(found))
    nothing = training.supervised(CROSS_ENTROPY)({"logits": logits[1:2]}, labels[1:2], None)
    assert float(nothing) == 0


def test_several_labels_of_a_row_are_not_those_of_tokens():
    logits, shares = torch.randn(4, 3), torch.rand(4, 3).softmax(-1)
    mixed = training.supervised(CROSS_ENTROPY, mixed=True)({"logits": logits}, shares, shares.numel())
    torch.testing.assert_close(mixed, F.cross_entropy(logits, shares))
    weights = torch.tensor([1.0, 2.0, 3.0])
    several = training.supervised(BINARY, label_weights=weights)({"logits": logits}, shares.round(), None)
    torch.testing.assert_close(several, F.binary_cross_entropy_with_logits(logits, shares.round(), pos_weight=weights))


def test_each_batch_has_the_labels_of_its_tokens_and_says_how_many_count():
    flat = torch.tensor([1, -100, 2, 0, 0, -100, 3])
    labels = TokenLabels(flat, np.array([0, 3, 4, 7]))
    assert labels.batch([2, 1])["labels"].tolist() == [[0, -100, 3], [0, -100, -100]]
    assert labels.counted.tolist() == [2, 1, 2]
    assert Beside(Values({"x": torch.zeros(3)}), labels).counted.tolist() == [2, 1, 2]


def test_steps_of_several_batches_equal_one_of_all(backbone, tmp_path):
    """Gradients that are added up are those of the mean over all tokens, though batches have unlike many."""
    weights = []
    for accumulated in (1, 5):
        built, encoder = classifier_of(backbone, tmp_path / f"inputs{accumulated}")
        rows = rows_of(encoder)
        size = -(-len(rows.aligned) // accumulated)
        for module in built.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        sets = training.Sets(Beside(rows.columns(encoder), rows.labels()), Beside(rows.columns(encoder), rows.labels()))
        settings = Finetune(
            strategy="full", batch_size=size, gradient_accumulation_steps=accumulated, optimizer="sgd",
            schedule="constant", warmup_ratio=0, report_to=[], weight_decay=0,
        )  # fmt: skip
        groups = [{"params": list(built.parameters()), "lr": 0.1}]
        plan = training.Plan("full", "", tmp_path / f"fit{accumulated}", groups, 1, seed=1)
        score = training.Scoring(lambda outputs, labels: {"f1": 0.5}, "f1", lower_is_better=False)
        training.fit(built, sets, training.supervised(CROSS_ENTROPY), score, plan, settings, progress=silent)
        weights.append(built.classifier.weight.detach().clone())
    before = classifier_of(backbone, tmp_path / "inputs")[0].classifier.weight
    assert not torch.allclose(weights[0], before, atol=1e-4)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strategy", ["probe", "partial", "full"])
def test_a_model_learns_spans_in_windows(strategy, backbone, tmp_path):
    built, encoder = classifier_of(backbone, tmp_path / "inputs")
    rows = rows_of(encoder)
    assert len(rows.aligned) > len(TEXTS)  # some texts take several windows

    def score(outputs, labels):
        whole = rows.joined(outputs)
        return TASK.score(TASK.records(whole, {}), rows.targets)

    settings = Finetune(
        strategy=strategy, unfreeze=1 if strategy == "partial" else None, epochs=30, batch_size=16,
        learning_rate=0.05 if strategy == "probe" else 3e-3,
        report_to=[],
    )  # fmt: skip
    phase = next(model.phases(built, encoder, rows, rows, settings, cache=tmp_path / "cache", progress=silent))
    fitted = training.fit(
        phase.module,
        training.Sets(phase.train, phase.validation),
        training.supervised(CROSS_ENTROPY),
        training.Scoring(score, "f1", lower_is_better=False),
        training.Plan(phase.name, "", tmp_path / "fit", phase.groups, phase.epochs, seed=1),
        settings,
        progress=silent,
    )
    assert fitted.best_metric > (0.3 if strategy == "probe" else 0.9)  # whose backbone is random


def test_a_teacher_of_tokens_is_heard_where_labels_count(backbone, tmp_path):
    teacher, encoder = classifier_of(backbone, tmp_path / "inputs")
    rows = rows_of(encoder)
    sets = model.distillation_sets(encoder, rows, rows)
    with_logits = model.with_teacher_logits(sets, teacher, batch_size=4, progress=silent)
    batch = with_logits.train.batch([5, 0, 8])
    theirs = batch.pop("teacher_logits")
    labels = batch.pop("labels")
    with torch.no_grad():
        again = teacher(**{name: batch[name] for name in encoder.input_names})["logits"]
    mask = batch["attention_mask"].bool()
    torch.testing.assert_close(theirs[mask], again[mask], rtol=1e-4, atol=1e-5)
    assert not theirs[~mask].any()

    ours = torch.randn_like(theirs)
    loss = distillation_loss(
        {"soft_targets": 0.7, "hard_labels": 0.3},
        training.supervised(CROSS_ENTROPY),
        temperature=2.0,
        problem_type=TASK.PROBLEM_TYPE,
    )({"logits": ours, "teacher_logits": theirs}, labels, None)
    at = labels >= 0
    soft = F.kl_div((ours[at] / 2).log_softmax(-1), (theirs[at] / 2).log_softmax(-1), log_target=True, reduction="none")
    expected = 0.7 * 4 * soft.sum(-1).mean() + 0.3 * F.cross_entropy(ours[at], labels[at])
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_tokens_of_two_tokenizers_cannot_be_compared(backbone, tmp_path):
    _, encoder = classifier_of(backbone, tmp_path / "inputs")
    other = classifier_of(backbone, tmp_path / "other")[1]
    other.identity = "another"
    rows = rows_of(encoder)
    with pytest.raises(ModelError, match="another tokenizer"):
        model.distillation_sets(encoder, rows, rows, teacher_encoder=other)


def test_outputs_and_labels_of_tokens_go_one_below_the_other():
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[1, -100, 2], [0, 0, -100]])
    flat, below, count = of_tokens({"logits": logits, "other": torch.zeros(5)}, labels, None)
    assert flat.keys() == {"logits"}
    assert flat["logits"].shape == (6, 4)
    assert below.tolist() == [1, -100, 2, 0, 0, -100]
    assert int(count) == 4


def test_on_a_gpu_texts_are_padded_to_few_lengths():
    ids = torch.arange(300, dtype=torch.int32)
    tokens = Tokens({"input_ids": ids}, np.array([0, 40, 42, 172]), ("input_ids", "attention_mask"), {"input_ids": 7})
    batch = replace(tokens, buckets=True).take(torch.tensor([0, 1]), 0)
    assert batch["input_ids"].shape == (2, 48)
    assert batch["input_ids"][1].tolist() == [40, 41, *[7] * 46]
    assert batch["attention_mask"].sum(1).tolist() == [40, 2]
    assert tokens.take(torch.tensor([0, 1]), 0)["input_ids"].shape == (2, 40)
    widths = {padded_width(longest, True) for longest in range(1, 513)}
    assert sorted(widths) == [16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512]
    assert all(padded_width(longest, True) >= longest for longest in range(1, 513))
