from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tledge import losses, plugins, tasks, train
from tledge.batches import Columns
from tledge.progress import silent
from tledge.recipe.schema import Distill, Finetune
from tledge.train import loop, resume


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """What a test raises in the middle of training."""


class Points(Columns):
    """Points of a plane with the side of a line that they are on, handed out in ready batches."""

    def __init__(self, count, seed=0, multilabel=False):
        rng = np.random.default_rng(seed)
        self.points = torch.tensor(rng.normal(size=(count, 4)), dtype=torch.float32)
        side = (self.points[:, 0] + 0.3 * self.points[:, 1] > 0).long()
        self.targets = torch.stack([side, 1 - side, side], 1).float() if multilabel else side

    def __len__(self):
        return len(self.points)

    def take(self, rows, seed):
        return {"points": self.points[rows], "labels": self.targets[rows]}


class Net(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self, n_labels=2, dropout_prob=0.2, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout_prob), nn.Linear(8, n_labels))

    def forward(self, points):
        return {"logits": self.layers(points)}


def interrupt_at(step):
    """A progress that raises when that step of this process is done."""

    @contextmanager
    def progress(description, total):
        done = 0

        def advance(count):
            nonlocal done
            done += count > 0
            if count and done >= step:
                raise Interrupted

        yield advance

    return progress


@pytest.fixture(autouse=True)
def at_each_step(monkeypatch):
    """Progress is shown, and a checkpoint kept, at each step."""
    monkeypatch.setattr(loop, "SHOWN_EVERY_S", 0.0)
    monkeypatch.setattr(resume, "EVERY_S", 0.0)


@pytest.fixture
def toys():
    """`Net`, `Points`, `Interrupted` and `interrupt_at`, for tests of the training loop."""
    return SimpleNamespace(Net=Net, Points=Points, Interrupted=Interrupted, interrupt_at=interrupt_at)


@pytest.fixture
def fit(tmp_path):
    """`fit(net, ...)` trains on 64 points, scores on 32, and gives what `train.fit` gives."""
    torch.set_num_threads(1)

    def run(
        net, *, folder="run", progress=silent, lr=0.05, epochs=4, n_train=64, seed=0, weights=None, multilabel=False,
        task=None, loss=None, rows=None, metric=None, groups=None, base_rate=None, mix=None,
        section="finetune", lower_is_better=False, output="logits", objective=None, score=None, **settings,
    ):  # fmt: skip
        task = tasks.load(task or ("text_multilabel" if multilabel else "text_classification"))
        settings = Finetune(**({"batch_size": 8, "report_to": []} | settings))
        parameters = [p for p in net.parameters() if p.requires_grad]
        return train.fit(
            net,
            train.Sets(*(rows or (Points(n_train, 1, multilabel), Points(32, 2, multilabel))), mix),
            objective
            or train.supervised(
                loss or plugins.load(losses.__name__, task.LOSS).loss,
                label_weights=weights,
                label_smoothing=settings.label_smoothing,
                mixed=mix is not None,
            ),
            train.Scoring(score or task.score, metric or task.METRIC, lower_is_better, output),
            train.Plan(
                "full",
                "a note",
                tmp_path / folder,
                groups or [{"params": parameters, "lr": lr, "weight_decay": 0.01}],
                epochs,
                seed,
                base_rate,
            ),
            settings,
            progress=progress,
            section=section,
        )

    return run


@pytest.fixture
def distill(tmp_path):
    """`distill(student, teacher, rows, ...)` trains and gives what `train.distill` gives."""
    torch.set_num_threads(1)

    def run(
        student, teacher, rows, *, pairing=None, folder="run", task=None, lr=0.05, epochs=3, seed=0, mix=None,
        label_weights=None, progress=silent, score=None, optimizer=None, **settings,
    ):  # fmt: skip
        task = task or tasks.load("text_classification")
        language = task.PROBLEM_TYPE == "causal_lm"
        optimizer = {} if optimizer is None else {"optimizer": optimizer}
        if language:
            lesson, output = train.TokenTargets(task.PROBLEM_TYPE), "token_losses"
        else:
            loss = plugins.load(losses.__name__, task.LOSS).loss
            lesson, output = train.RowTargets(task.PROBLEM_TYPE, loss, label_weights), "logits"
        return train.distill(
            student,
            teacher,
            train.Sets(*rows, mix=mix),
            lesson,
            train.Scoring(score or task.score, task.METRIC, language, output),
            train.Plan(
                "distill",
                "",
                tmp_path / folder,
                [{"params": list(student.parameters()), "lr": lr, "weight_decay": 0.01}],
                epochs,
                seed,
            ),
            Distill(**({"batch_size": 8, "report_to": []} | optimizer | settings)),
            pairing=pairing,
            progress=progress,
        )

    return run
