"""`tledge verify`: is this bundle whole, and does it compute here what it computed where it was made?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tledge.cli import screen
from tledge.cli.places import bundle_of
from tledge.errors import BundleError


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle or run folder.")],
    as_json: screen.JsonOption = False,
) -> None:
    """Check a bundle: files against their hashes, format, operator sets, and golden vectors run again."""
    from tledge.runtime.verification import verify

    result = verify(bundle_of(bundle))
    if as_json:
        screen.as_json(dataclasses.asdict(result))
    else:
        for check in result.checks:
            typer.echo(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.detail}")
    failed = [check.name for check in result.checks if not check.passed]
    if failed:
        raise BundleError(
            f"{bundle} does not verify: {', '.join(failed)} failed; do not ship it, and copy or make it again"
        )
