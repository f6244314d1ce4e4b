"""Photos small enough for a whole run in seconds: three colours of paper, with grain, in a folder for each."""

import numpy as np
from PIL import Image

COLOURS = {"brick": (176, 70, 58), "leaf": (74, 140, 66), "sky": (96, 142, 204)}

RECIPE = """\
name: tiny
task: image_classification
data:
  train: photos
  validation: 0.2
  test: 0.2
  calibration: 8
model:
  backbone: torchvision:squeezenet1_1
  weights: none
  preprocessing: {size: 64}
finetune:
  epochs: 10
  batch_size: 16
  learning_rate: 0.01
  report_to: []
quantize:
  int8_static: {types: [u8s8], methods: [minmax], keep_float: [none]}
budget:
  max_metric_drop: 0.9
bench:
  percentile: 50
"""


def photo(label, number):
    """A sheet of coloured paper of 60 to 90 pixels, lit from one side; the same for the same arguments."""
    rng = np.random.default_rng([number, *COLOURS[label]])
    height, width = rng.integers(60, 91, 2)
    light = np.linspace(0.6, 1.2, width)[None, :, None]
    pixels = np.array(COLOURS[label]) * light + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(folder, count=72, labels=tuple(COLOURS)):
    """A folder for each label with every third photo; JPEG and PNG files by turns."""
    for number in range(count):
        label = labels[number % len(labels)]
        (folder / label).mkdir(parents=True, exist_ok=True)
        photo(label, number).save(folder / label / f"{number:03}{'.png' if number % 2 else '.jpg'}")
    return folder


def write_project(folder):
    """A folder with `recipe.yaml` and `photos`; gives the recipe's path."""
    write_photos(folder / "photos")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "recipe.yaml"
