"""Training on a GPU beside the same on the CPU."""

import families
import pytest
import torch

from tledge import precision

pytestmark = pytest.mark.gpu


@pytest.fixture
def on_the_cpu(monkeypatch):
    """`on_the_cpu(call)` gives what a call gives where there is no GPU."""

    def run(call):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            return call()

    return run


def texts(fit, pretrained, tmp_path, folder, **settings):
    from tledge import model
    from tledge.batches import Beside

    built, backbone = families.classifier(pretrained("bert"))
    for each in built.modules():  # which draw other numbers on a GPU
        if isinstance(each, torch.nn.Dropout):
            each.p = 0.0
    encoder = families.encoder(built, backbone, tmp_path / "inputs")
    rows = [families.rows(count, seed) for count, seed in ((96, 1), (32, 2))]
    sets = [Beside(model.read(encoder, each.values), each.labels()) for each in rows]
    fitted = fit(built, folder=folder, rows=sets, lr=1e-3, epochs=3, **settings)
    return fitted, built.cpu()


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"precision": "fp32", "compile": "off"}, 2e-3),
        ({"precision": "bf16", "compile": "off"}, 5e-2),
        ({"precision": "fp32", "compile": "auto"}, 2e-3),
    ],
)
def test_texts_train_as_on_the_cpu(settings, tolerance, fit, pretrained, tmp_path, on_the_cpu):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    ours, _ = texts(fit, pretrained, tmp_path, "gpu", **settings)
    theirs, _ = on_the_cpu(lambda: texts(fit, pretrained, tmp_path, "cpu", precision="fp32"))
    assert ours.device.startswith("cuda")
    assert theirs.device == "cpu"
    for mine, other in zip(ours.curve, theirs.curve, strict=True):
        assert mine.train_loss == pytest.approx(other.train_loss, rel=tolerance, abs=tolerance)
        assert mine.validation_loss == pytest.approx(other.validation_loss, rel=tolerance, abs=tolerance)
    if settings["compile"] == "auto":
        assert "CUDA graphs" in ours.note


def test_auto_is_bf16_where_the_gpu_has_it():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = precision.training_device()
    has = torch.cuda.get_device_capability(device) >= (8, 0)
    assert precision.resolved("auto", device) == ("bf16" if has else "fp32")


@pytest.mark.parametrize("step", [5, 17])
def test_a_captured_training_is_resumed(step, fit, toys, pretrained, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    whole, ours = texts(fit, pretrained, tmp_path, "whole", compile="auto", precision="fp32")
    with pytest.raises(toys.Interrupted):
        texts(
            fit, pretrained, tmp_path, "parted", compile="auto", precision="fp32", progress=toys.interrupt_at(step)
        )  # fmt: skip
    parted, theirs = texts(fit, pretrained, tmp_path, "parted", compile="auto", precision="fp32")
    assert parted.steps == whole.steps
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
