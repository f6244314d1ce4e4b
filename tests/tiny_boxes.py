"""Pictures with coloured things on grey paper and their boxes, small enough for a whole run in seconds."""

import json

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200)}
ORDER = sorted(COLOURS)

RECIPE = """\
name: tiny
task: object_detection
data:
  train: pictures
  validation: 0.2
  test: 0.2
  calibration: 6
model:
  backbone: torchvision:squeezenet1_1
  weights: none
  detector: fcos
  input_size: [64, 96]
finetune:
  strategy: full
  epochs: 6
  batch_size: 8
  learning_rate: 0.003
  report_to: []
quantize:
  int8_static: {types: [u8s8], methods: [minmax], keep_float: [first]}
budget:
  max_metric_drop: 0.9
bench:
  percentile: 50
"""


def picture(number):
    """A sheet with up to three things, and their boxes as label and corners; the same for the same number."""
    rng = np.random.default_rng(number)
    width, height = (int(side) for side in rng.integers(70, 110, 2))
    image = Image.fromarray(rng.integers(150, 180, (height, width, 3), dtype=np.uint8))
    draw, found = ImageDraw.Draw(image), []
    for place in rng.permutation(3)[: int(rng.integers(0, 4))]:
        label = ORDER[int(rng.integers(len(ORDER)))]
        left, top = width * int(place) // 3 + 2, int(rng.integers(2, height // 3))
        box = (left, top, left + width // 3 - 5, top + int(rng.integers(height // 3, height // 2)))
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=COLOURS[label])
        found.append((label, box))
    return image, found


def write_pictures(folder, count=60):
    """A folder of pictures, PNG and JPEG by turns, with `_annotations.coco.json` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        image, found = picture(number)
        name = f"{number:03}{'.png' if number % 2 else '.jpg'}"
        image.save(folder / name)
        images.append({"id": number, "file_name": name, "width": image.width, "height": image.height})
        for label, (left, top, right, bottom) in found:
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": 10 * (ORDER.index(label) + 1)}
                | {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
                | {"iscrowd": 0}
            )
    categories = [{"id": 10 * (i + 1), "name": label} for i, label in enumerate(ORDER)]
    table = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


def write_project(folder):
    """A folder with `recipe.yaml` and `pictures`; gives the recipe's path."""
    write_pictures(folder / "pictures")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "recipe.yaml"
