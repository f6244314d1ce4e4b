"""Whether the files of a model folder are what their names say: whole, no pointers, no adapter, not quantized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tledge import lfs
from tledge.errors import ModelError

_ADAPTER, _CONFIG = "adapter_config.json", "config.json"
_WHOLE_NUMBERS = ("I8", "U8", "I16", "I32", "F8_E4M3", "F8_E5M2", "F4")
"""What safetensors calls the types that quantized weights are stored in."""
_MOST_HEADER = 100_000_000  # of safetensors itself


def check(folder: Path, key: str = "model.backbone") -> None:
    """Nothing, where the folder may be a model.

    Raises:
        ModelError: a file is a Git LFS pointer, empty or cut short, or the folder is an adapter without its model, or
            holds quantized weights; the message starts with the recipe's `key`.
    """
    if (folder / _ADAPTER).exists():
        raise ModelError(f"{key}: {folder} holds an adapter{_base(folder)}, not a whole model; {_MERGE}")
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".safetensors", ".txt", ".model", ".bin") or not path.is_file():
            continue
        if lfs.is_pointer(path):
            raise ModelError(f"{key}: {lfs.advice(path)}")
        if path.stat().st_size == 0 and path.suffix in (".json", ".safetensors"):
            raise ModelError(f"{key}: {path} is empty; download it again")
        if path.suffix == ".safetensors":
            _check_tensors(path, key)
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles and not any(folder.glob("*.safetensors")) and (folder / _CONFIG).exists():
        raise ModelError(
            f"{key}: {folder} has its weights in {pickles[0]!r} alone, which can run code when it is loaded; save it "
            "as model.safetensors (transformers' save_pretrained does)"
        )
    if not (folder / _CONFIG).exists():
        raise ModelError(f"{key}: the folder {str(folder)!r} has no config.json; {_expected(folder)}")


def check_not_quantized(config: Any, reference: str, key: str = "model.backbone") -> None:
    """Nothing, where a config of transformers speaks of plain weights.

    Raises:
        ModelError: it has a `quantization_config`.
    """
    found = getattr(config, "quantization_config", None)
    if found is None:
        return
    facts = found if isinstance(found, Mapping) else getattr(found, "to_dict", dict)()
    method = facts.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in facts else "an unnamed method")
    bits = facts.get("bits") or facts.get("w_bit")
    raise ModelError(
        f"{key}: {reference!r} is quantized already ({method}{f', {bits} bits' if bits else ''}); {_FLOAT}"
    )


_MERGE = (
    "merge the two with peft (`AutoPeftModel...from_pretrained(...).merge_and_unload().save_pretrained(folder)`) and "
    "name that folder"
)
_FLOAT = "expected weights in float32, float16 or bfloat16: take the model that it was made from"


def _base(folder: Path) -> str:
    try:
        base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    return f" of {base!r}" if isinstance(base, str) else ""


def _expected(folder: Path) -> str:
    """What to name instead; sentence-transformers' old layout has the model one folder further down."""
    inside = sorted(
        path.parent.name for path in folder.glob(f"*/{_CONFIG}") if (path.parent / "tokenizer.json").exists()
    )
    if (folder / "modules.json").exists() and inside:
        return f"it is in sentence-transformers' old layout: name {str(folder / inside[0])!r}"
    return "expected a Hugging Face model folder"


def _check_tensors(path: Path, key: str) -> None:
    """The header of a file must be whole, and the file as long as it says (safetensors' own format)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= min(_MOST_HEADER, size) else b""
    try:
        facts = json.loads(header)
        tensors = {name: each for name, each in facts.items() if name != "__metadata__"}
        whole = 8 + length + max((each["data_offsets"][1] for each in tensors.values()), default=0)
        kinds = {name: str(each["dtype"]) for name, each in tensors.items()}
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        cut = 8 + length > size and length <= _MOST_HEADER
        what = f"is cut short in its header ({size:,} bytes)" if cut else "is no safetensors file"
        raise ModelError(f"{key}: {path} {what}; download it again") from error
    if size < whole:
        raise ModelError(f"{key}: {path} is cut short: {size:,} bytes of {whole:,}; download it again")
    packed = [n for n, kind in kinds.items() if n.endswith("weight") and kind in _WHOLE_NUMBERS]
    if packed:
        raise ModelError(
            f"{key}: {path} is quantized already: {len(packed)} weights are of {kinds[packed[0]]}, such as "
            f"{packed[0]!r}; {_FLOAT}"
        )
