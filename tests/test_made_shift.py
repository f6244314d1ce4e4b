"""A shift that was made: digits in another light, of which each method is to take back at least half."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from tledge import train
from tledge.batches import Beside, Values
from tledge.losses import cross_entropy
from tledge.model import groups_of, update_batch_norms
from tledge.recipe.schema import Finetune
from tledge.stages import domains
from tledge.tasks import load as load_task

SEEDS = range(5)
EPOCHS = 20
TASK = load_task("image_classification")


class Network(nn.Module):
    """Two convolutions with batch norms, and a linear head behind a dropout."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        )  # fmt: skip
        self.dropout, self.classifier = nn.Dropout(0.0), nn.Linear(64, 10)

    def forward(self, pixel_values):
        return {"logits": self.classifier(self.dropout(self.body(pixel_values)))}


class Head(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.dropout, self.classifier = network.dropout, network.classifier

    def forward(self, features):
        return {"logits": self.classifier(self.dropout(features))}


def digits(*, seed, shifted):
    """Source rows, target rows and those that judge: gray digits, or with `shifted` in a dim coloured light."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images = np.repeat(images[order].reshape(-1, 1, 8, 8) / 16, 3, axis=1).astype(np.float32)
    labels = labels[order]
    other = images[600:]
    if shifted:
        light, glow = np.array([0.25, 0.5, 0.8]), np.array([0.6, 0.3, 0.0])
        other = (other * light[:, None, None] + glow[:, None, None]).astype(np.float32)
    torch_of = torch.from_numpy
    return (
        (torch_of(images[:600]), torch_of(labels[:600])),
        (torch_of(other[:600]), torch_of(labels[600:1200])),
        (torch_of(other[600:]), labels[1200:]),
    )


def columns(values, labels=None, name="pixel_values"):
    found = Values({name: values})
    return found if labels is None else Beside(found, Values({"labels": labels}))


def fit(module, rows, validation, folder, *, objective=None, epochs=EPOCHS, more=()):
    objective = objective or train.supervised(cross_entropy.loss)
    groups = groups_of([*module.parameters()], 3e-3, 0.0)
    scoring = train.Scoring(TASK.score, "accuracy", False, last=True)
    settings = Finetune(report_to=[], batch_size=32)
    sets = train.Sets(rows, validation)
    train.fit(module, sets, objective, scoring, train.Plan("digits", "", folder, groups, epochs, 0), settings,
              progress=SILENT)  # fmt: skip


def accuracy(module, dropout, judge):
    name = "features" if isinstance(module, Head) else "pixel_values"
    found = train.answers(module, dropout, columns(judge[0], name=name))
    return TASK.score({"logits": found.logits}, judge[1])["accuracy"]


def learnt(method, source, target, judge, seed, folder):
    """The accuracy on the target of a network that learnt by a method."""
    torch.manual_seed(seed)
    network = Network()
    rows, others = columns(*source), columns(target[0])
    if method in ("coral", "dann", "mmd"):
        aligned = train.Aligned(network, network.dropout, method, 64, maps=False)
        aligned.begin(EPOCHS * 19)
        objective = train.aligning(train.supervised(cross_entropy.loss), method, 1.0)
        fit(aligned, train.Alongside(rows, others), rows, folder, objective=objective)
        aligned.restore()
        return accuracy(network, network.dropout, judge)
    fit(network, rows, rows, folder / "first")
    if method == "adabn":
        update_batch_norms(network.body, ({"x": each} for each in target[0].split(100)))
    if method == "self_training":
        for number in (1, 2, 3):
            found = train.answers(network, network.dropout, others)
            chosen, answers = domains.confident(TASK, {"logits": found.logits}, number / 6)
            aligned = train.Aligned(network, network.dropout, method, 64, maps=False)
            objective = train.aligning(train.supervised(cross_entropy.loss), method, 1.0)
            both = train.Alongside(rows, train.labelled(others, answers, chosen))
            fit(aligned, both, rows, folder / str(number), objective=objective)
            aligned.restore()
    if method == "closed_coral":
        seen = [train.answers(network, network.dropout, columns(each)).features for each in (source[0], target[0])]
        features, other = (columns(torch.from_numpy(each), name="features") for each in seen)
        changed = train.recoloured(features, other)
        head = Head(network)
        with_labels = changed(columns(torch.from_numpy(seen[0]), source[1], name="features"))
        fit(head, with_labels, with_labels, folder / "head")
    return accuracy(network, network.dropout, judge)


def SILENT(description, total):  # noqa: N802
    from tledge.progress import silent

    return silent(description, total)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["adabn", "coral", "closed_coral", "dann", "mmd", "self_training"])
def test_each_method_takes_back_half_of_a_made_shift_and_harms_nothing_without_one(method, tmp_path):
    figures = []
    for seed in SEEDS:
        plain, shifted = digits(seed=seed, shifted=False), digits(seed=seed, shifted=True)
        figures.append(
            [
                learnt("none", *plain, seed, tmp_path / f"0-{seed}"),
                learnt("none", *shifted, seed, tmp_path / f"1-{seed}"),
                learnt(method, *shifted, seed, tmp_path / f"2-{seed}"),
                learnt(method, *plain, seed, tmp_path / f"3-{seed}"),
            ]
        )
    without, source_only, adapted, control = np.mean(figures, axis=0)
    told = f"{method}: {source_only:.3f} of {without:.3f} with the shift, adapted {adapted:.3f}, control {control:.3f}"
    assert without - source_only > 0.1, told
    assert adapted - source_only >= (without - source_only) / 2, told
    assert control >= without - 0.01, told
