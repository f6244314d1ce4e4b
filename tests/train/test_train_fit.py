import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tledge import losses, plugins
from tledge.artifacts import read_json
from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.recipe.schema import Augmentation
from tledge.train import Mix, label_weights
from tledge.train import settings as names


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def close(first, second, **tolerance):
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


def without_seconds(fitted):
    return [
        getattr(fitted, name) for name in ("phase", "note", "steps", "best_epoch", "best_metric", "curve", "device")
    ]


def test_learns_and_tells_how(fit, toys):
    net = toys.Net()
    fitted = fit(net)
    assert fitted.best_metric > 0.9
    assert (fitted.phase, fitted.note, fitted.steps, fitted.device) == ("full", "a note", 32, "cpu")
    assert [point.epoch for point in fitted.curve] == [1, 2, 3, 4]
    assert fitted.curve[-1].train_loss < fitted.curve[0].train_loss
    assert fitted.best_metric == max(point.validation_metric for point in fitted.curve)
    assert fitted.seconds > 0


def test_the_weights_left_are_those_of_the_best_epoch(fit, toys):
    net = toys.Net()
    fitted = fit(net, lr=0.3, epochs=6)
    points = toys.Points(32, 2)
    net.eval()
    with torch.no_grad():
        logits = net(points.points)["logits"]
    accuracy = (logits.argmax(1) == points.targets).float().mean().item()
    best = next(point for point in fitted.curve if point.epoch == fitted.best_epoch)
    assert accuracy == pytest.approx(fitted.best_metric)
    assert F.cross_entropy(logits, points.targets).item() == pytest.approx(best.validation_loss, rel=1e-5)


def test_the_same_seed_gives_the_same_bits(fit, toys):
    nets = [toys.Net() for _ in range(3)]
    results = [fit(net, folder=str(i), seed=min(i, 1)) for i, net in enumerate(nets)][1:]
    assert same(nets[1], nets[2])
    assert without_seconds(results[0]) == without_seconds(results[1])
    assert not same(nets[0], nets[1])


@pytest.mark.parametrize("step", [3, 17])
def test_resuming_gives_what_an_undisturbed_run_gives(step, fit, toys):
    whole, parted = toys.Net(), toys.Net()
    expected = fit(whole, folder="whole")
    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", progress=toys.interrupt_at(step))
    parted = toys.Net(seed=99)  # a new process would not have the half-trained weights
    again = fit(parted, folder="parted")
    assert same(whole, parted)
    assert without_seconds(again) == without_seconds(expected)


def test_a_finished_training_is_not_repeated(fit, toys, tmp_path):
    net, again = toys.Net(), toys.Net(seed=5)
    fitted = fit(net)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["fitted.json", "weights.safetensors"]
    assert fit(again, progress=toys.interrupt_at(1)) == fitted
    assert same(net, again)


def test_interrupted_after_the_last_epoch(fit, toys, tmp_path):
    whole, parted = toys.Net(), toys.Net()
    expected = fit(whole, folder="whole")

    class Progress:
        def __init__(self, description, total): ...
        def __enter__(self):
            return lambda count: None

        def __exit__(self, *_):
            raise toys.Interrupted

    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", progress=Progress)
    kept = read_json(tmp_path / "parted" / "resume.json")
    assert kept["of"] == 32
    assert 0 < kept["step"] < 32, "what the last epoch gives is written as the result"
    parted = toys.Net(seed=99)
    assert without_seconds(fit(parted, folder="parted")) == without_seconds(expected)
    assert same(whole, parted)


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import conftest
from tledge.train import loop, resume

loop.SHOWN_EVERY_S = resume.EVERY_S = 0.0

@contextmanager
def progress(description, total):
    done = 0
    def advance(count):
        nonlocal done
        done += count > 0
        if done == 12:
            os.kill(os.getpid(), signal.SIGKILL)
    yield advance

fit = conftest.fit.__wrapped__ if hasattr(conftest.fit, "__wrapped__") else conftest.fit._get_wrapped_function()
fit(Path(sys.argv[1]))(conftest.Net(), folder="killed", progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_is_resumed_to_the_same_bits(fit, toys, tmp_path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path.cwd())]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "killed" / "resume.pt").exists()
    whole, resumed = toys.Net(), toys.Net(seed=99)
    expected = fit(whole, folder="whole")
    assert without_seconds(fit(resumed, folder="killed")) == without_seconds(expected)
    assert same(whole, resumed)


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_checkpoint_that_cannot_be_read_is_not_used(damage, fit, toys, tmp_path):
    whole, parted = toys.Net(), toys.Net()
    expected = fit(whole, folder="whole")
    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", progress=toys.interrupt_at(20))
    path = tmp_path / "parted" / "resume.pt"
    path.write_bytes(path.read_bytes()[:1000] if damage is None else damage)
    (tmp_path / "parted" / "resume.pt.partial").write_bytes(b"half")
    parted = toys.Net()  # it starts again
    assert without_seconds(fit(parted, folder="parted")) == without_seconds(expected)
    assert same(whole, parted)
    assert sorted(p.name for p in (tmp_path / "parted").iterdir()) == ["fitted.json", "weights.safetensors"]


def test_early_stopping_ends_before_the_last_epoch(fit, toys):
    fitted = fit(toys.Net(), epochs=30, early_stopping_patience=2)
    assert fitted.curve[-1].epoch == fitted.best_epoch + 2 < 30


@pytest.mark.parametrize("epochs_done", [2, 4])
def test_early_stopping_after_a_resume_stops_at_the_same_epoch(epochs_done, fit, toys):
    whole, parted = toys.Net(), toys.Net()
    expected = fit(whole, folder="whole", epochs=30, early_stopping_patience=2)
    assert 4 <= len(expected.curve) < 30
    stop = epochs_done * 8 + (3 if epochs_done < len(expected.curve) else 0)
    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", epochs=30, early_stopping_patience=2, progress=toys.interrupt_at(stop))
    parted = toys.Net(seed=99)
    again = fit(parted, folder="parted", epochs=30, early_stopping_patience=2)
    assert without_seconds(again) == without_seconds(expected)
    assert same(whole, parted)


def test_accumulated_gradients_equal_those_of_a_large_batch(fit, toys):
    large, small, plain = (toys.Net(dropout_prob=0) for _ in range(3))
    weights = torch.tensor([0.5, 2.0])
    whole = fit(large, folder="large", batch_size=16, n_train=60, weights=weights)
    parts = fit(
        small, folder="small", batch_size=8, gradient_accumulation_steps=2, n_train=60, weights=weights
    )  # the last step of an epoch has 8 and 4 rows
    fit(plain, folder="plain", batch_size=8, n_train=60, weights=weights)
    close(large, small, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError):
        close(large, plain, rtol=1e-4, atol=1e-5)
    assert whole.steps == parts.steps == 16
    for ours, theirs in zip(whole.curve, parts.curve, strict=True):
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-4)


def test_several_labels_a_row_are_learnt(fit, toys):
    large, small = (toys.Net(n_labels=3, dropout_prob=0) for _ in range(2))
    fitted = fit(large, folder="large", multilabel=True, batch_size=16)
    assert fitted.best_metric > 0.9
    fit(small, folder="small", multilabel=True, batch_size=8, gradient_accumulation_steps=2)
    close(large, small, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("epochs", "points", "steps"), [(0.5, [0.5], 4), (1.5, [1.0, 1.5], 12)])
def test_parts_of_epochs(epochs, points, steps, fit, toys):
    fitted = fit(toys.Net(), epochs=epochs)
    assert [point.epoch for point in fitted.curve] == points
    assert fitted.steps == steps


def test_a_loss_that_is_no_number_stops_in_one_line(fit, toys):
    with pytest.raises(TrainError) as caught:
        fit(toys.Net(), lr=1e30)
    assert str(caught.value) == (
        "training (full): loss is nan in epoch 1.00; expected a finite number: "
        "lower finetune.learning_rate, or use precision bf16 or fp32"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer": "adamw_torchh"},
            r"^finetune\.optimizer: 'adamw_torchh' is not known; known are adamw_torch, .*did you mean",
        ),
        (
            {"schedule": "lineer"},
            r"^finetune\.schedule: 'lineer' is not known; known are linear, .*; did you mean",
        ),
        ({"report_to": ["tensorbord"]}, r"^finetune\.report_to: .*; did you mean 'tensorboard'\?$"),
        ({"schedule": "warmup_stable_decay"}, r"^finetune\.schedule: 'warmup_stable_decay' needs settings that"),
        ({"schedule": "cosine_with_min_lr"}, r"^finetune\.schedule: 'cosine_with_min_lr' needs settings that"),
    ],
)
def test_a_setting_that_transformers_does_not_take(settings, message, fit, toys):
    with pytest.raises(TrainError, match=message) as caught:
        fit(toys.Net(), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [ImportError, RuntimeError])
def test_a_package_that_a_setting_needs_is_named(fault, fit, toys, monkeypatch):
    def refuse(*_, **__):
        raise fault("SomeCallback requires some_tracker to be installed. Run `pip install some_tracker`.\nmore")

    monkeypatch.setattr(names, "Trainer", type("T", (), {
        "get_optimizer_cls_and_kwargs": staticmethod(refuse)
    }))  # fmt: skip
    with pytest.raises(TrainError, match=r"^finetune: SomeCallback requires .* `pip install some_tracker`\.$"):
        fit(toys.Net())


def test_bf16_trains_on_a_cpu(fit, toys):
    assert fit(toys.Net(), precision="bf16").best_metric > 0.9


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has an accelerator"
)
def test_fp16_without_an_accelerator_is_refused(fit, toys):
    with pytest.raises(TrainError, match=r"^finetune\.precision: fp16 needs a GPU.*; use auto, bf16 or fp32$"):
        fit(toys.Net(), precision="fp16")


def test_memory_that_is_full_is_told_in_one_line(fit, toys):
    class Hungry(toys.Net):
        def forward(self, points):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate ...")

    with pytest.raises(TrainError, match=r"finetune\.batch_size 8; lower it, and raise finetune\.gradient_acc"):
        fit(Hungry())


def test_tensorboard_gets_the_curves(fit, toys, tmp_path):
    fit(toys.Net(), report_to=["tensorboard"])
    files = list((tmp_path / "run").rglob("events.out.tfevents.*"))
    assert len(files) == 1
    assert b"eval/accuracy" in files[0].read_bytes()


def test_nothing_is_reported_unless_asked(fit, toys, tmp_path):
    fit(toys.Net())
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_progress_counts_rows(fit, toys):
    from contextlib import contextmanager

    heard = []

    @contextmanager
    def progress(description, total):
        heard.append((description, total))
        yield heard.append

    fit(toys.Net(), progress=progress, gradient_accumulation_steps=2, epochs=2)
    assert heard[:2] == [("Training (full)", 128), 0]
    assert [count for count in heard[2:] if count] == [16] * 8


@pytest.mark.parametrize("optimizer", ["sgd", "adafactor", "rmsprop"])
def test_other_optimizers_move_the_weights(optimizer, fit, toys):
    net = toys.Net()
    fit(net, optimizer=optimizer, epochs=1)
    assert not same(net, toys.Net())


def test_a_second_classifier_counts_four_tenths(fit, toys):
    class Double(toys.Net):
        def __init__(self, aux):
            super().__init__(dropout_prob=0.0)
            self.second = torch.nn.Linear(4, 2)
            self.aux = aux

        def forward(self, points):
            result = super().forward(points)
            if self.training and self.aux:
                result["aux_logits"] = self.second(points)
            return result

    with_aux, without = Double(True), Double(False)
    without.load_state_dict(with_aux.state_dict())
    first, second = fit(with_aux, folder="aux", epochs=1), fit(without, folder="plain", epochs=1)
    assert first.curve[0].train_loss > second.curve[0].train_loss + 0.1
    close(with_aux.layers, without.layers, rtol=0.05, atol=0.05)  # gradients are clipped together
    assert not torch.equal(with_aux.second.weight, without.second.weight)
    # one step of plain gradient descent tells the share
    rows = (toys.Points(8, 1), toys.Points(8, 2))
    net = Double(True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fit(
        net, folder="step", rows=rows, epochs=1, optimizer="sgd", lr=1.0, schedule="constant", warmup_ratio=0.0,
        max_grad_norm=1e9, groups=[{"params": list(net.parameters()), "lr": 1.0, "weight_decay": 0.0}],
    )  # fmt: skip
    points = rows[0]
    weight = before["second.weight"].requires_grad_()
    F.cross_entropy(points.points @ weight.T + before["second.bias"], points.targets).backward()
    torch.testing.assert_close(before["second.weight"] - net.second.weight, 0.4 * weight.grad, rtol=1e-4, atol=1e-6)


class Numbers(Columns):
    """Points of a plane with a number that is far from zero, and -100 at some."""

    def __init__(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.points = torch.randn(count, 4, generator=generator)
        self.targets = -100 + 5 * self.points[:, 0]

    def __len__(self):
        return len(self.points)

    def take(self, rows, seed):
        return {"points": self.points[rows], "labels": self.targets[rows]}


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_numbers_are_learnt(loss, fit, toys):
    class Far(toys.Net):
        def forward(self, points):
            return {"logits": self.layers(points) * 5 - 100}

    train = Numbers(64, 1)
    weights = label_weights(None, train.targets.numpy(), ("y",), "regression")
    fitted = fit(
        Far(n_labels=1, dropout_prob=0.0), task="text_regression", rows=(train, Numbers(32, 2)), weights=weights,
        loss=plugins.load(losses.__name__, loss).loss, epochs=6,
    )  # fmt: skip
    assert fitted.best_metric > 0.9
    assert fitted.curve[0].train_loss < 3


def test_the_metric_of_the_recipe_picks_the_epoch(fit, toys):
    by_area, by_accuracy = (
        fit(toys.Net(), folder=metric, metric=metric, lr=0.005) for metric in ("roc_auc", "accuracy")
    )
    areas, accuracies = ([p.validation_metric for p in each.curve] for each in (by_area, by_accuracy))
    assert areas != accuracies
    assert by_area.best_metric == max(areas)
    assert by_accuracy.best_metric == max(accuracies)
    assert [p.validation_loss for p in by_area.curve] == [p.validation_loss for p in by_accuracy.curve]


def test_a_metric_that_the_validation_rows_cannot_give_is_told(fit, toys):
    one_sided = toys.Points(8, 2)
    one_sided.targets[:] = 1
    with pytest.raises(TrainError, match=r"^metric: the validation rows give no roc_auc, which needs rows whose label"):
        fit(toys.Net(), rows=(toys.Points(16, 1), one_sided), metric="roc_auc")
    fitted = fit(toys.Net(), folder="accuracy", rows=(toys.Points(16, 1), one_sided))
    assert fitted.curve[0].validation_metric <= 1


class Pictures(Columns):
    """Noisy images that are brighter in one half, handed out in ready batches."""

    def __init__(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.randint(2, (count,), generator=generator)
        self.images = torch.randn(count, 3, 6, 6, generator=generator) * 0.5
        self.images[..., :3] += self.targets[:, None, None, None]

    def __len__(self):
        return len(self.images)

    def take(self, rows, seed):
        noise = 0.05 * torch.randn(len(rows), 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        return {"pixel_values": self.images[rows] + noise, "labels": self.targets[rows]}


class Seer(torch.nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = torch.nn.Linear(108, 2)

    def forward(self, pixel_values):
        return {"logits": self.layer(pixel_values.flatten(1))}


def test_mixed_images_are_learnt_and_scored_unmixed(fit):
    mix = Mix(Augmentation(mixup=0.4, cutmix=0.4), n_labels=2)
    rows = (Pictures(64, 1), Pictures(32, 2))
    mixed, again, plain = Seer(), Seer(), Seer()
    fitted = fit(mixed, folder="mixed", task="image_classification", rows=rows, mix=mix)
    fit(again, folder="again", task="image_classification", rows=rows, mix=mix)
    unmixed = fit(plain, folder="plain", task="image_classification", rows=rows)
    assert fitted.best_metric > 0.8
    assert same(mixed, again)
    assert fitted.curve[-1].train_loss > unmixed.curve[-1].train_loss
    assert fitted.curve[-1].train_loss < 1  # a mean over rows, not over rows and labels


def test_accumulated_gradients_of_mixed_images_weigh_rows_alike(fit):
    class Halves(Mix):
        def __call__(self, batch, seed):
            return batch | {"labels": F.one_hot(batch["labels"], 2).float()}

    class Still(Pictures):
        def take(self, rows, seed):
            return {"pixel_values": self.images[rows], "labels": self.targets[rows]}

    rows = (Still(60, 1), Still(32, 2))
    large, small, plain = Seer(), Seer(), Seer()
    mix = Halves(Augmentation(mixup=1.0), 2)
    common = {"task": "image_classification", "rows": rows}
    fit(large, folder="large", batch_size=16, mix=mix, **common)
    fit(small, folder="small", batch_size=8, gradient_accumulation_steps=2, mix=mix, **common)
    fit(plain, folder="plain", batch_size=16, **common)
    close(large, small, rtol=1e-4, atol=1e-5)
    close(large, plain, rtol=1e-4, atol=1e-5)


def test_random_batches_are_the_same_after_a_resume(fit, toys):
    rows = (Pictures(32, 1), Pictures(16, 2))
    mix = Mix(Augmentation(mixup=0.4, cutmix=0.4), n_labels=2)
    common = {"task": "image_classification", "rows": rows, "mix": mix, "epochs": 3}
    whole, parted = Seer(), Seer()
    expected = fit(whole, folder="whole", **common)
    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", progress=toys.interrupt_at(10), **common)
    resumed = Seer(seed=99)
    assert without_seconds(fit(resumed, folder="parted", **common)) == without_seconds(expected)
    assert same(whole, resumed)


def test_messages_name_the_section_of_the_recipe(fit, toys):
    with pytest.raises(TrainError, match=r"^distill\.optimizer: "):
        fit(toys.Net(), section="distill", optimizer="none_such")
    with pytest.raises(TrainError, match=r"lower distill\.learning_rate"):
        fit(toys.Net(), section="distill", lr=1e30)


def test_a_metric_that_is_better_when_lower_picks_its_lowest_epoch(fit, toys):
    def error(outputs, targets):
        return {"error": float((outputs["logits"].argmax(1) != targets).mean())}

    net = toys.Net()
    fitted = fit(net, score=error, metric="error", lower_is_better=True, lr=0.3, epochs=6)
    errors = [point.validation_metric for point in fitted.curve]
    assert fitted.best_metric == min(errors) < max(errors)
    net.eval()
    points = toys.Points(32, 2)
    with torch.no_grad():
        logits = net(points.points)["logits"]
    assert (logits.argmax(1) != points.targets).float().mean().item() == pytest.approx(min(errors))


def test_what_is_scored_has_the_name_of_the_output(fit, toys):
    class Named(toys.Net):
        def forward(self, points):
            return {"answers": self.layers(points)}

    def objective(outputs, labels, n_items):
        return F.cross_entropy(outputs["answers"], labels, reduction="sum") / (n_items or len(labels))

    def score(outputs, targets):
        (answers,) = outputs.values()
        return {"accuracy": float((answers.argmax(1) == targets).mean()), "named": float("answers" in outputs)}

    fitted = fit(Named(), objective=objective, output="answers", score=score, metric="named")
    assert fitted.best_metric == 1


def test_shared_weights_are_stored_once_and_stay_shared(fit, toys):
    class Tied(torch.nn.Module):
        def __init__(self, seed=0):
            super().__init__()
            torch.manual_seed(seed)
            self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.last = torch.nn.Linear(4, 2)

        def forward(self, points):
            return {"logits": self.last(torch.tanh(self.second(torch.tanh(self.first(points)))))}

    whole, parted = Tied(), Tied()
    fit(whole, folder="whole")
    assert whole.first.weight is whole.second.weight
    assert set(whole.state_dict()) >= {"first.weight", "second.weight"}  # as before the training
    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", progress=toys.interrupt_at(17))
    parted = Tied(seed=9)
    fit(parted, folder="parted")
    assert same(whole, parted)
    again = Tied(seed=9)
    fit(again, folder="parted")
    assert same(whole, again)
