"""`tledge export`: from a checkpoint to a bundle with the fp32 graph."""

from __future__ import annotations

from tledge.cli import screen
from tledge.cli.run import OutOption, RecipeArgument, stages


def command(
    run: RecipeArgument,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Export the checkpoint of a run to ONNX, check parity with torch, and bundle the fp32 graph.

    `tledge quantize` adds the recipe's other variants and chooses among them.
    """
    stages(run, overrides, out, as_json, until="bundle", fp32_only=True)
