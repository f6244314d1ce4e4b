"""Files that are one JSON value: questions as SQuAD's, or pictures with boxes as COCO's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tledge.errors import DataError
from tledge.tables import coco, squad
from tledge.tables.source import Options, Source, open_text

SUFFIXES = (".json",)


def open_file(path: Path, options: Options) -> Source:
    """The rows of a JSON file, which is read whole.

    Raises:
        DataError: the file is no JSON, or none of a shape that is known.
    """
    found, read_as = parsed(path, options)
    opened = coco.source if coco.fits(found) else squad.source
    return opened(path, found, read_as)


def parsed(path: Path, options: Options) -> tuple[Any, str]:
    """What a JSON file holds, and how it was read where that is not the usual.

    Raises:
        DataError: the file is no JSON.
    """
    text = open_text(path, options.encoding, newline="\n")
    whole = "".join(text.lines)
    try:
        found = json.loads(whole)
    except json.JSONDecodeError as error:
        many = "; one object a line is a .jsonl file" if error.msg == "Extra data" else ""
        raise DataError(f"{path.name}:{error.lineno}: no JSON at column {error.colno}: {error.msg}{many}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: no JSON that can be read: {error}") from error
    return found, f"in {text.encoding}" if text.encoding != options.encoding else ""
