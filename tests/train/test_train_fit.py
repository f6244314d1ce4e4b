import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tledge.errors import TrainError
from tledge.train.callbacks import COMPLETE, last_complete


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
    if step < 8:
        parted = toys.Net()  # nothing is kept before the first epoch has ended
    again = fit(parted, folder="parted")
    assert same(whole, parted)
    assert without_seconds(again) == without_seconds(expected)


def test_a_finished_training_is_not_repeated(fit, toys, tmp_path):
    net, again = toys.Net(), toys.Net(seed=5)
    fitted = fit(net)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["fitted.json", "model.safetensors"]
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
    assert last_complete(tmp_path / "parted" / "checkpoints").endswith("checkpoint-32")
    parted = toys.Net(seed=99)
    assert without_seconds(fit(parted, folder="parted")) == without_seconds(expected)
    assert same(whole, parted)


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import conftest

@contextmanager
def progress(description, total):
    done = 0
    def advance(count):
        nonlocal done
        done += count
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
    assert last_complete(tmp_path / "killed" / "checkpoints").endswith("checkpoint-8")
    whole, resumed = toys.Net(), toys.Net(seed=99)
    expected = fit(whole, folder="whole")
    assert without_seconds(fit(resumed, folder="killed")) == without_seconds(expected)
    assert same(whole, resumed)


def test_a_half_written_checkpoint_is_not_used(fit, toys, tmp_path):
    whole, parted = toys.Net(), toys.Net()
    expected = fit(whole, folder="whole")
    with pytest.raises(toys.Interrupted):
        fit(parted, folder="parted", progress=toys.interrupt_at(20))
    second = tmp_path / "parted" / "checkpoints" / "checkpoint-16"
    (second / COMPLETE).unlink()
    (second / "model.safetensors").write_bytes(b"half")
    parted = toys.Net(seed=99)
    assert without_seconds(fit(parted, folder="parted")) == without_seconds(expected)
    assert same(whole, parted)


def test_last_complete_compares_numbers_and_clears_the_broken(tmp_path):
    assert last_complete(tmp_path) is None
    for number in (9, 10, 200):
        (tmp_path / f"checkpoint-{number}").mkdir()
    for number in (9, 10):
        (tmp_path / f"checkpoint-{number}" / COMPLETE).touch()
    assert last_complete(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not (tmp_path / "checkpoint-200").exists()


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
            r"^finetune\.optimizer: .*'adamw_torchh'; known are adamw_torch, .*did you mean",
        ),
        ({"schedule": "lineer"}, r"^finetune\.schedule: .* 'lineer'; known are linear, .*; did you mean 'linear'\?$"),
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
    from tledge.train import fit as module

    def refuse(*_, **__):
        raise fault("SomeCallback requires some_tracker to be installed. Run `pip install some_tracker`.\nmore")

    monkeypatch.setattr(sys.modules[module.__module__], "Trainer", type("T", (), {
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
    with pytest.raises(TrainError, match=r"^finetune\.precision: fp16 needs a GPU.*; use bf16 or fp32$"):
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


def test_progress_counts_optimizer_steps(fit, toys):
    from contextlib import contextmanager

    heard = []

    @contextmanager
    def progress(description, total):
        heard.append((description, total))
        yield heard.append

    fit(toys.Net(), progress=progress, gradient_accumulation_steps=2, epochs=2)
    assert heard == [("Training (full)", 8), 0] + [1] * 8


@pytest.mark.parametrize("optimizer", ["sgd", "adafactor", "rmsprop"])
def test_other_optimizers_move_the_weights(optimizer, fit, toys):
    net = toys.Net()
    fit(net, optimizer=optimizer, epochs=1)
    assert not same(net, toys.Net())
