"""What precision means on a device."""

import pytest
import torch

from tledge.precision import autocast, resolved, training_device


def test_auto_is_fp32_on_a_cpu():
    assert training_device() == torch.device("cpu")
    assert resolved("auto", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_bf16_on_gpus_that_have_it(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert resolved("auto", torch.device("cuda", 0)) == expected


def test_what_is_asked_for_is_kept():
    assert [resolved(each, torch.device("cpu")) for each in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_steps_run_in_the_precision():
    x = torch.ones(2, 2)
    with autocast("bf16", torch.device("cpu")):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("fp32", torch.device("cpu")):
        assert (x @ x).dtype == torch.float32
