"""A model that answers and does not learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Teacher:
    """Answers without gradients, always in eval mode.

    It is no module itself, so that the module that holds it neither trains nor stores it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()

    def __call__(self, inputs: Mapping[str, Tensor]) -> Any:
        """What the module gives; it follows its inputs to their device."""
        self.follow(next(iter(inputs.values())).device)
        with torch.no_grad():
            return self.module(**inputs)

    def follow(self, device: torch.device) -> None:
        """Move to a device, unless it is there."""
        here = next(self.module.parameters()).device
        if here != device:
            self.module.to(device)
        if self.module.training:
            self.module.eval()
