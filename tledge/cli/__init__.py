"""The command line: one short file a verb. Heavy packages are imported inside a command's body alone."""

from __future__ import annotations

import io
import sys
from typing import Any

import typer

from tledge.cli import (
    bench,
    curve,
    distill,
    export,
    finetune,
    gate,
    init,
    inspect,
    predict,
    quantize,
    relabel,
    report,
    run,
    schema,
    verify,
)
from tledge.errors import MissingExtraError, StorageError, TledgeError

app = typer.Typer(
    name="tledge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
    help="Fine-tune a pretrained model, ship it as a small ONNX bundle, and keep the evidence that it is good enough.",
    epilog="Exit codes: 0 done, 1 a defect of tledge, 2 command line or recipe, 3 data, 4 model, 5 training, 6 export "
    "or parity, 7 quantization or budget, 8 bundle, 9 input, 10 a package is missing, "
    "11 REGRESSION, 12 ANOMALOUS, 13 INCONCLUSIVE, 14 another machine, 15 a full disk or a "
    "folder that cannot be written, 130 Ctrl-C.",
)

for verb in (
    run,
    finetune,
    distill,
    curve,
    export,
    quantize,
    relabel,
    bench,
    gate,
    report,
    predict,
    verify,
    inspect,
    init,
    schema,
):
    _name = verb.__name__.rpartition(".")[2]
    app.command(_name, short_help=(verb.__doc__ or "").partition(": ")[2])(verb.command)


def _version(value: bool) -> None:
    if value:
        from tledge import __version__

        typer.echo(f"tledge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


# Packages of the `train` extra whose absence is the user's to mend, and not a defect.
_EXTRA = {"torch", "transformers", "accelerate", "datasets", "onnx", "onnxscript", "optimum", "pydantic", "yaml",
          "sklearn", "scipy", "peft", "gguf", "jinja2", "safetensors", "torchvision", "timm", "pyarrow",
          "onnx_ir"}  # fmt: skip

_USAGE_ERROR: Any = typer.BadParameter.__base__  # what a misspelt command line raises

_STOPPED = 130  # by Ctrl-C


def main() -> None:
    """Run the command line and exit with a documented code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # whatever the locale is
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = _STOPPED
    except TledgeError as error:
        code = _fail(error)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        code = _fail(MissingExtraError.of(error, "train"))
    except _USAGE_ERROR as error:
        # A command line without a verb gets the help, which is this error's message.
        got_none = type(error).__name__ == "NoArgsIsHelpError"
        message = error.format_message()
        typer.echo(message if got_none else f"error: {message.rstrip('.')}; try --help", err=True)
        code = error.exit_code
    except Exception as error:
        found = StorageError.of(error)
        if found is None:
            raise
        code = _fail(found)
    if code == _STOPPED:
        typer.echo("stopped: what was finished is kept; the same command goes on from there", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: TledgeError) -> int:
    for line in str(error).splitlines():
        typer.echo(f"error: {line}", err=True)
    return error.exit_code
