"""Fine-tune a pretrained model, ship it as a small ONNX bundle, and keep the evidence that it is good enough.

===============  ========================================================================
`Predictor`      a bundle, opened for predicting; needs only the device install
`Generator`      a bundle of a language model, opened for generating; alike
`load_recipe`    a recipe file, checked
`run`            run a recipe's stages, or go on with a run; needs `tledge[train]`
`TledgeError`    what every mistake that the user can mend is raised as
`__version__`    the version of this package
===============  ========================================================================

Importing this is light: a name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tledge.errors import TledgeError
    from tledge.pipeline import run
    from tledge.recipe import load_recipe
    from tledge.runtime import Generator, Predictor

__version__ = "0.1.0"

__all__ = ["Generator", "Predictor", "TledgeError", "__version__", "load_recipe", "run"]

_HOMES = {
    "Generator": "tledge.runtime",
    "Predictor": "tledge.runtime",
    "TledgeError": "tledge.errors",
    "load_recipe": "tledge.recipe",
    "run": "tledge.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tledge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
