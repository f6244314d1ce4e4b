"""What happened to images on their way to the model, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tledge.report import format as fmt
from tledge.report.facts import ImageFacts, PreprocessingFacts

_AUGMENTATIONS = {
    "flip": "mirrored ({})",
    "rotation_degrees": "turned by up to {}°",
    "min_scale": "cut to {} of the area or more",
    "color": "brightness, contrast and saturation changed by up to {}",
    "randaugment": "{} operations of RandAugment",
    "randaugment_magnitude": "of magnitude {}",
    "mixup": "mixup (alpha {})",
    "cutmix": "CutMix (alpha {})",
    "views": "{} views of each image kept",
}
_IN_GRAPH = {
    "normalize": "normalises resized uint8 images itself",
    "resize_and_normalize": "resizes and normalises uint8 images itself",
}


def augmentation(settings: Mapping[str, float | str]) -> str:
    """The augmentation in one line: `mirrored (horizontal), turned by up to 10°, 4 views of each image kept`."""
    known = [key for key in _AUGMENTATIONS if key in settings]
    others = [f"{key} {settings[key]}" for key in settings if key not in _AUGMENTATIONS]
    texts = (_AUGMENTATIONS[key].format(_plain(settings[key])) for key in known)
    return ", ".join([*texts, *others])


def size(image: ImageFacts) -> str:
    """The model's input size: `224 × 224 pixels`, height first."""
    return f"{_product(image.size)} pixels" if image.size else ""


def preprocessing(image: ImageFacts) -> str:
    """Resizing, cutting and normalising, in one line; what is not known is left out."""
    by = f" ({image.interpolation})" if image.interpolation else ""
    parts = []
    if len(image.resize) == 1:
        parts.append(f"the shorter side resized to {image.resize[0]} pixels{by}")
    elif image.resize:
        parts.append(f"resized to {_product(image.resize)} pixels{by}")
    if image.size and tuple(image.resize) != tuple(image.size):
        parts.append(f"the middle {_product(image.size)} cut out")
    if image.mean and image.std:
        parts.append(f"red, green and blue from 0 to 1 minus {_listed(image.mean)}, divided by {_listed(image.std)}")
    return "; ".join(parts)


def comparison(found: PreprocessingFacts) -> tuple[str, ...]:
    """How far the preprocessing is from the library's own, and the graph's from ours: one sentence each."""
    library = found.reference
    sentences = ["Evaluation, calibration, parity, benchmark and the device prepare images with the same code."]
    if found.max_abs_diff is not None:
        mean = f", {_steps(found.mean_abs_diff)} on average" if found.mean_abs_diff else ""
        sentences.append(
            f"It differs from {library}'s own by at most {_steps(found.max_abs_diff)} of a pixel value{mean}."
            if found.max_abs_diff
            else f"Not a pixel differs from {library}'s own."
        )
    if found.ours is not None and found.theirs is not None:
        rows = f" on {fmt.count(found.rows)} validation rows" if found.rows else ""
        sentences.append(
            f"The fp32 graph's {fmt.metric_name(found.metric)}{rows} is {fmt.score(found.metric, found.ours)} with it "
            f"and {fmt.score(found.metric, found.theirs)} with {library}'s."
        )
    if found.graph_mode:
        sentences.append(_in_graph(found))
    return tuple(sentences)


def _in_graph(found: PreprocessingFacts) -> str:
    text = f"The graph {_IN_GRAPH.get(found.graph_mode, f'does {found.graph_mode} itself')}"
    if found.graph_max_steps is None:
        return f"{text}."
    text += f": its pixels are at most {fmt.number(found.graph_max_steps)}/255 from ours"
    if found.graph_share_over_one is not None:
        text += f", and {fmt.share(found.graph_share_over_one, 1)} of them more than 1/255"
    return f"{text}."


def _steps(value: float | None) -> str:
    steps = 255 * (value or 0.0)
    return "less than 0.01/255" if steps < 0.01 else f"{steps:.2g}/255" if steps < 10 else f"{steps:.0f}/255"


def _product(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))


def _listed(values: Sequence[float]) -> str:
    first = f"{values[0]:.3g}"
    return first if len(set(values)) == 1 else ", ".join(f"{value:.3g}" for value in values)


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
