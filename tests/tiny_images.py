"""A tiny convolutional network, its preprocessing and some pictures, for tests that need a real graph of images."""

import numpy as np
import torch
from torch import nn

from tledge.inputs.image import Facts, ImageInput

SIZE = 32
FACTS = Facts((SIZE, SIZE), 36, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_offset="round")
ENCODER = ImageInput(FACTS)


class Network(nn.Module):
    """Two convolutions with batch norms, squeeze and excitation, and a linear head; a second head while training."""

    def __init__(self, n_outputs=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(16, n_outputs)
        self.second = nn.Linear(16, n_outputs)

    def forward(self, pixel_values):
        x = self.stem(pixel_values)
        x = x * self.squeeze(x)
        x = (x + self.block(x)).mean((2, 3), keepdim=True)
        features = torch.flatten(x, 1)
        logits = {"logits": self.classifier(features)}
        return logits | ({"aux_logits": self.second(features)} if self.training else {})


def network(n_outputs=3, seed=0):
    """A random network in eval mode, whose batch norms have seen pictures and whose outputs differ visibly."""
    torch.manual_seed(seed)
    made = Network(n_outputs)
    nn.init.normal_(made.classifier.weight)
    with torch.no_grad():
        for i in range(20):
            made.train()(torch.from_numpy(ENCODER.dummy(8, seed=i)["pixel_values"]))
    return made.eval()


def pictures(count, *, height=48, width=40, seed=0):
    """Coloured blocks under noise, `(height, width, 3) uint8` each."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, height // 8 + 1, width // 8 + 1, 3))
    blocks = blocks.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return list(np.clip(blocks + rng.integers(-20, 21, blocks.shape), 0, 255).astype(np.uint8))
