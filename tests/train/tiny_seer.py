"""Pictures of two kinds, and a network of two blocks that tells them apart."""

import torch
from torch import nn

from tledge.batches import Columns


class Pictures(Columns):
    def __init__(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.randint(2, (count,), generator=generator)
        self.images = torch.randn(count, 3, 8, 8, generator=generator) * 0.5
        self.images[..., :4] += self.targets[:, None, None, None]

    def __len__(self):
        return len(self.images)

    def take(self, rows, seed):
        return {"pixel_values": self.images[rows], "labels": self.targets[rows]}


class Seer(nn.Module):
    def __init__(self, channels=6, stride=1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, stride, 1), nn.ReLU())
        self.top = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(2 * channels, 2)
        self.seen = []

    def forward(self, pixel_values):
        self.seen.append(pixel_values)
        return {"logits": self.head(self.top(self.stem(pixel_values)).mean((2, 3)))}
