"""The command line's reference, from its own help: `python -m tledge.cli.reference > docs/commands.md`."""

from __future__ import annotations

import os
import sys

INTRO = """\
# Commands

Made from `tledge --help`. Results go to standard output; progress bars and messages to standard error, and bars only
where it is a terminal.

| exit code | means |
|---|---|
| 0 | done |
| 1 | a defect of tledge; its traceback is shown |
| 2 | a misspelt command line, or a recipe or override that is wrong |
| 3 | rows that cannot be read, mapped or split |
| 4 | a backbone that cannot be loaded, or a freeze setting that names nothing |
| 5 | training that cannot go on |
| 6 | no graph could be made, or it does not compute what torch computes |
| 7 | a scheme that fails, or no variant within the budget |
| 8 | a bundle that is damaged, incomplete or of an unknown format |
| 9 | a value that cannot be an input of the model, or an option of a device command that is wrong |
| 10 | a package of an extra is not installed |
| 11 | `tledge gate`: REGRESSION |
| 12 | `tledge gate`: ANOMALOUS |
| 13 | `tledge gate`: INCONCLUSIVE |
| 14 | another machine that cannot be reached, lacks something, or broke off |
| 15 | a disk that is full, or a folder that cannot be written |
| 130 | Ctrl-C |
"""


def reference() -> str:
    """The reference in Markdown: the whole command's help, then each verb's."""
    os.environ["COLUMNS"] = "100"
    from typer.main import get_command
    from typer.testing import CliRunner

    from tledge.cli import app

    verbs = get_command(app).commands  # type: ignore[attr-defined]
    parts = [
        INTRO,
        _block(CliRunner().invoke(app, ["--help"], prog_name="tledge", terminal_width=100).output),
    ]
    for verb in verbs:
        output = CliRunner().invoke(app, [verb, "--help"], prog_name="tledge", terminal_width=100).output
        parts.append(f"## tledge {verb}\n\n{_block(output)}")
    return "\n".join(parts)


def _block(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"```text\n{lines}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
