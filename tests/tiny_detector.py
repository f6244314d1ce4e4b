"""A detector of a few layers in torch, whose answers differ from image to image, for what needs no training."""

import torch
from torch import nn

from tledge.inputs._suppression import Suppression, suppress

SIZE = (48, 64)
N_LABELS = 3


class Head(nn.Module):
    """What each of the boxes gives, `(batch, places * 2, N_LABELS + 4)`."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(16, 2 * (N_LABELS + 4), 3, padding=1)

    def forward(self, maps):
        """One row for each box of the maps."""
        return self.last(maps).unflatten(1, (2, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)


class TinyDetector(nn.Module):
    """Two boxes at each place of a map of stride 8."""

    stages = 1

    def __init__(self, suppression=None, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.suppression = suppression or Suppression()
        self.size = SIZE
        self.backbone = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in ((3, 8), (8, 16), (16, 16))
            )
        )
        self.head = Head()
        y, x = torch.meshgrid(torch.arange(SIZE[0] // 8), torch.arange(SIZE[1] // 8), indexing="ij")
        centres = (torch.stack([x, y], -1).reshape(-1, 1, 2) * 8.0 + 4).expand(-1, 2, -1).reshape(-1, 2)
        sides = torch.tensor([[10.0, 14.0], [24.0, 18.0]]).repeat(len(centres) // 2, 1)
        self.register_buffer("anchors", torch.cat([centres - sides / 2, centres + sides / 2], 1), persistent=False)
        self.train()
        with torch.no_grad():
            for _ in range(20):
                self.raw(torch.randn(4, 3, *SIZE))
            self.head.last.weight *= 4
        self.eval()

    def raw(self, pixel_values):
        """All boxes and their scores."""
        found = self.head(self.backbone(pixel_values))
        boxes = self.anchors + found[..., N_LABELS:].tanh() * 4
        return {"boxes": boxes.clamp(min=0), "scores": found[..., :N_LABELS].sigmoid().transpose(1, 2)}

    def forward(self, pixel_values):
        """Detections, as numpy chooses them."""
        raw = {name: each.detach().numpy() for name, each in self.raw(pixel_values).items()}
        found = suppress(raw["boxes"], raw["scores"], self.suppression)
        return {name: torch.from_numpy(each) for name, each in found.items()}
