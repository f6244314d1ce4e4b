"""What `preprocessor_config.json` says of images, in the words of the ecosystem's image processors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tledge.artifacts import read_object
from tledge.errors import BundleError, did_you_mean
from tledge.inputs._fit import FILL, Fit

FILE = "preprocessor_config.json"
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""The filters of resizing, at the numbers that Pillow and `resample` give them."""

MAX_SIDE = 4096
"""Pixels of an input's side at most: as float32 its tensor then takes 200 MB."""

InGraph = Literal["none", "normalize", "resize_and_normalize"]
CropOffset = Literal["floor", "round"]
Border = Literal["none", "letterbox", "pad"]

_IN_GRAPH = ("none", "normalize", "resize_and_normalize")
_CROP_OFFSETS = ("floor", "round")
_POSITIONS: Mapping[str, Border] = {"top_left": "pad", "center": "letterbox"}
"""Where an image lies that keeps its proportions, and what that way of fitting is called."""
_LARGEST, _SMALLEST = 1e6, 1e-6  # of means, deviations and factors, so that every value of a pixel stays finite
_WARPS_FROM = 384  # ConvNeXT's evaluation: from this size on images are squeezed, and nothing is cut off

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_ALL = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
_MOBILENET = {"size": {"shortest_edge": 256}, "resample": 2, "do_center_crop": True, "crop_size": 224}
_MOBILENET |= {"image_mean": _HALF, "image_std": _HALF, "default_to_square": False}
_CLIP = {"size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "crop_size": 224}
_CLIP |= {"image_mean": _CLIP_MEAN, "image_std": _CLIP_STD, "default_to_square": False}
_SQUARE = {"size": {"height": 224, "width": 224}, "image_mean": _HALF, "image_std": _HALF, "default_to_square": True}

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Beit": {**_SQUARE, "resample": 3, "crop_size": 224},
    "Bit": _CLIP,
    "CLIP": _CLIP,
    "ConvNext": {
        **{"size": {"shortest_edge": 384}, "resample": 3, "crop_pct": 224 / 256},
        **{"image_mean": _HALF, "image_std": _HALF, "default_to_square": False},
    },
    "DeiT": {**_SQUARE, "size": {"height": 256, "width": 256}, "resample": 3, "do_center_crop": True, "crop_size": 224},
    "EfficientNet": {
        **{**_SQUARE, "size": {"height": 346, "width": 346}, "resample": 3, "crop_size": 289},
        "include_top": True,
    },
    "MobileNetV1": _MOBILENET,
    "MobileNetV2": _MOBILENET,
    "Pvt": {**_SQUARE, "resample": 3, "image_mean": _IMAGENET_MEAN, "image_std": _IMAGENET_STD},
    "Siglip": {**_SQUARE, "resample": 3, "default_to_square": False},
    "ViT": {**_SQUARE, "resample": 2},
}
"""What each image processor of transformers takes for a key that its file leaves out, beside `_ALL`."""

_KNOWN = {
    *("do_resize", "size", "resample", "default_to_square", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "crop_offset", "in_graph"),
    *("do_pad", "pad_size", "pad_position", "pad_fill"),
}
_HARMLESS = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "model_input_names", "do_convert_rgb"),
    *("_valid_processor_keys", "input_data_format", "device", "return_tensors", "disable_grouping"),
    *("image_seq_length", "_name_or_path", "name_or_path"),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """How an image becomes a tensor.

    `size` is the height and width of the model's input in pixels. `resize` comes before: the shorter side, or a
    height and width, or `None` for no resizing; what is then larger than `size` is cut to its middle, and what is
    smaller gets a black border. `crop_offset` says how half a pixel of that middle is rounded: down, as transformers
    does, or to the even neighbour, as torchvision does. A value of 0 to 255 becomes
    `(value * rescale_factor - mean) / std`, by channel. `in_graph` names what the graph does itself.

    With a `border` images are resized to fit into `size` with their proportions, and what is left is of the grey
    `fill`: around them (`letterbox`), or on the right or below (`pad`). `resize` is then `size`.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale_factor: float = 1 / 255
    crop_offset: CropOffset = "floor"
    in_graph: InGraph = "none"
    border: Border = "none"
    fill: int = FILL

    def whole_fit(self) -> Fit | None:
        """How whole images fill the input; `None` where a part of them is cut off, or they are not resized."""
        if self.border != "none":
            return Fit(self.border, self.size, self.fill)
        return Fit("stretch", self.size) if self.resize == self.size else None

    def to_config(self) -> dict[str, Any]:
        """The facts as the JSON object of `preprocessor_config.json`; `from_config` gives them back."""
        size = (
            {"shortest_edge": self.resize}
            if isinstance(self.resize, int)
            else dict(zip(("height", "width"), self.resize or self.size, strict=True))
        )
        config = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": self.resize is not None,
            "size": size,
            "resample": INTERPOLATIONS.index(self.interpolation),
            "do_center_crop": self.resize != self.size,
            "crop_size": {"height": self.size[0], "width": self.size[1]},
            "do_rescale": True,
            "rescale_factor": self.rescale_factor,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "crop_offset": self.crop_offset,
        }
        if self.border != "none":
            config["size"] = dict(zip(("max_height", "max_width"), self.size, strict=True))
            position = next(each for each, border in _POSITIONS.items() if border == self.border)
            config |= {"do_pad": True, "pad_size": config["crop_size"], "pad_position": position, "pad_fill": self.fill}
        return config if self.in_graph == "none" else {**config, "in_graph": self.in_graph}


def write_config(folder: Path, facts: Facts) -> None:
    """Write `preprocessor_config.json`, which `ImageInput.load` and transformers' CLIPImageProcessor read."""
    (folder / FILE).write_text(json.dumps(facts.to_config(), indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> Facts:
    """The facts in a folder's `preprocessor_config.json`.

    Raises:
        BundleError: the file is missing or damaged, or asks for something that is not done here.
    """
    path = folder / FILE
    try:
        config, _ = read_object(path)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: expected a folder with a saved image processor") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error
    return from_config(config, str(path))


def from_config(config: Mapping[str, Any], where: str = FILE) -> Facts:
    """The facts in the JSON object of an image processor; `where` names it in errors.

    Known are those of transformers for CLIP, ViT, DeiT, ConvNeXT (and ResNet, RegNet), BiT (and DINOv2), MobileNet,
    EfficientNet, BEiT, PVT and SigLIP (and Swin, which uses ViT's), of old files (`feature_extractor_type`) too.

    Raises:
        BundleError: a setting is missing or of a wrong kind, or its meaning for the pixels is not known here.
    """
    kind, defaults = _kind(config, where)
    given = {**_ALL, **defaults, **{key: value for key, value in config.items() if value is not None}}
    _refuse_unknown(given, {"ConvNext": {"crop_pct"}, "EfficientNet": {"include_top"}}.get(kind, set()), where)
    border = _border(given, where)
    resize, size = _sizes(given, where) if border == "none" else (_fits(given, where),) * 2
    resample = _get(given, "resample", where) if resize is not None else 2
    if not isinstance(resample, int) or isinstance(resample, bool) or not 0 <= resample < len(INTERPOLATIONS):
        raise BundleError(f"{where}: resample must be 0 to {len(INTERPOLATIONS) - 1}, got {resample!r:.60}")
    mean = _channels(given, "image_mean", where) if given["do_normalize"] else (0.0, 0.0, 0.0)
    std = _std(given, where)
    factor = _number(given["rescale_factor"], "rescale_factor", where) if given["do_rescale"] else 1.0
    if min(std) < _SMALLEST or factor < _SMALLEST:
        raise BundleError(
            f"{where}: image_std and rescale_factor must be above 0, {_SMALLEST:.0e} or more, got {std} and {factor}"
        )
    return Facts(
        size=size,
        resize=resize,
        interpolation=INTERPOLATIONS[resample],
        mean=mean,
        std=std,
        rescale_factor=factor,
        crop_offset=cast("CropOffset", _one_of(given, "crop_offset", _CROP_OFFSETS, where)),
        in_graph=cast("InGraph", _one_of(given, "in_graph", _IN_GRAPH, where)),
        border=border,
        fill=_fill(given, where),
    )


def _kind(config: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    """The family of an image processor, and its defaults; nothing is assumed where no type is named."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    if name is None:
        return "", {}
    family = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(name))
    if family not in _DEFAULTS:
        known = [f"{each}ImageProcessor" for each in _DEFAULTS]
        raise BundleError(
            f"{where}: the image processor {name!r:.60} is not known here; known are {', '.join(known)}"
            f"{did_you_mean(str(name)[:60], known)}"
        )
    return family, _DEFAULTS[family]


def _refuse_unknown(given: Mapping[str, Any], of_kind: set[str], where: str) -> None:
    for key, value in given.items():
        if key in _KNOWN | _HARMLESS | of_kind or value is None or value is False:
            continue
        if key == "data_format" and value == "channels_first":
            continue
        name = key if key.isidentifier() else repr(key)
        raise BundleError(f"{where}: {name:.60} = {value!r:.60} is not known here, so the pixels could come out wrong")


def _sizes(given: Mapping[str, Any], where: str) -> tuple[int | tuple[int, int] | None, tuple[int, int]]:
    """What images are resized to, and the size that is then cut out."""
    resize = _resize(given, where) if given["do_resize"] else None
    crop = _crop(given, where) if given.get("do_center_crop") else None
    if isinstance(resize, int) and given.get("crop_pct") is not None:
        size = (resize, resize)
        if crop not in (None, size):
            raise BundleError(f"{where}: crop_pct cuts to {size} pixels, crop_size to {crop}; expected one")
        pct = _number(given["crop_pct"], "crop_pct", where)
        if not 0 < pct <= 1:
            raise BundleError(f"{where}: crop_pct must be above 0 and at most 1, got {pct}")
        return (size if resize >= _WARPS_FROM else int(resize / pct)), size
    if crop is not None:
        return resize, crop
    if isinstance(resize, tuple):
        return resize, resize
    raise BundleError(
        f"{where}: images come out in different sizes; expected a size with height and width, or do_center_crop"
    )


def _resize(given: Mapping[str, Any], where: str) -> int | tuple[int, int]:
    size = _get(given, "size", where)
    if isinstance(size, int) and not isinstance(size, bool):
        size = {"height": size, "width": size} if given.get("default_to_square", True) else {"shortest_edge": size}
    sides = {key: value for key, value in size.items() if value is not None} if isinstance(size, Mapping) else {}
    if sides.keys() == {"shortest_edge"}:
        return _pixels(sides["shortest_edge"], "size", where)
    if sides.keys() == {"height", "width"}:
        return _pixels(sides["height"], "size", where), _pixels(sides["width"], "size", where)
    raise BundleError(f"{where}: size must have shortest_edge, or height and width, got {size!r:.60}")


def _border(given: Mapping[str, Any], where: str) -> Border:
    """How an image that keeps its proportions lies in the input."""
    if not given.get("do_pad"):
        return "none"
    return _POSITIONS[_one_of(given, "pad_position", tuple(_POSITIONS), where)]


def _fits(given: Mapping[str, Any], where: str) -> tuple[int, int]:
    """The size that images with a border are made to fit in, and that of the border's outside, which are one."""
    size, outside = given.get("size"), given.get("pad_size")
    inner = [size.get(key) for key in ("max_height", "max_width")] if isinstance(size, Mapping) else None
    outer = [outside.get(key) for key in ("height", "width")] if isinstance(outside, Mapping) else None
    if inner is None or inner != outer or not given["do_resize"] or given.get("do_center_crop"):
        raise BundleError(
            f"{where}: do_pad needs do_resize, no do_center_crop, a size with max_height and max_width, and a pad_size "
            f"with the same height and width; got {size!r:.60} and {outside!r:.60}"
        )
    return _pixels(inner[0], "size", where), _pixels(inner[1], "size", where)


def _fill(given: Mapping[str, Any], where: str) -> int:
    value = given.get("pad_fill", FILL)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise BundleError(f"{where}: pad_fill must be a whole number of 0 to 255, got {value!r:.60}")
    return value


def _crop(given: Mapping[str, Any], where: str) -> tuple[int, int]:
    size = _get(given, "crop_size", where)
    if isinstance(size, Mapping):
        sides = {key: value for key, value in size.items() if value is not None}
        if sides.keys() != {"height", "width"}:
            raise BundleError(f"{where}: crop_size must have height and width, got {size!r:.60}")
        return _pixels(sides["height"], "crop_size", where), _pixels(sides["width"], "crop_size", where)
    side = _pixels(size, "crop_size", where)
    return side, side


def _std(given: Mapping[str, Any], where: str) -> tuple[float, float, float]:
    plain = _channels(given, "image_std", where) if given["do_normalize"] else (1.0, 1.0, 1.0)
    if not given.get("include_top"):
        return plain
    # EfficientNet's divides by the deviation once more, also without do_normalize.
    red, green, blue = (s * t for s, t in zip(plain, _channels(given, "image_std", where), strict=True))
    return red, green, blue


def _channels(given: Mapping[str, Any], key: str, where: str) -> tuple[float, float, float]:
    value = _get(given, key, where)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3:
        raise BundleError(f"{where}: {key} must be one number or three, got {value!r:.60}")
    first, second, third = (_number(each, key, where) for each in values)
    return first, second, third


def _get(given: Mapping[str, Any], key: str, where: str) -> Any:
    if given.get(key) is None:
        raise BundleError(f"{where} has no {key!r}")
    return given[key]


def _pixels(value: object, key: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise BundleError(f"{where}: {key} must be in whole pixels, 1 to {MAX_SIDE}, got {value!r:.60}")
    return value


def _number(value: object, key: str, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(cast("float", value)) <= _LARGEST:  # false for a NaN too
        raise BundleError(f"{where}: {key} must be a number of at most {_LARGEST:.0e}, got {value!r:.60}")
    return float(cast("float", value))


def _one_of(given: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> str:
    value = given.get(key, known[0])
    if value not in known:
        raise BundleError(f"{where}: {key} must be {' or '.join(known)}, got {value!r:.60}")
    return str(value)
