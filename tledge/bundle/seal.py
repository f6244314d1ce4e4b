"""The manifest's hash of itself, so that a change in it is found as one in any other file is.

The hash is the last key of the JSON object: the SHA-256 of the file's bytes with its own 64 digits as zeros.
"""

from __future__ import annotations

import hashlib
import re

_DIGITS = 64
_END = re.compile(rb'"sha256": "([0-9a-f]{%d})"\s*}\s*\Z' % _DIGITS)


def sealed(text: str) -> str:
    """A JSON object as `artifacts.to_json` writes it, with the hash as its last key."""
    body = text.rstrip().removesuffix("}").rstrip()
    comma = "" if body.endswith("{") else ","
    blank = f'{body}{comma}\n  "sha256": "{"0" * _DIGITS}"\n}}\n'
    return blank.replace("0" * _DIGITS + '"\n}\n', hashlib.sha256(blank.encode()).hexdigest() + '"\n}\n')


def is_sealed(content: bytes) -> bool:
    """Whether a manifest's bytes end with a hash; those of older releases do not."""
    return _END.search(content) is not None


def holds(content: bytes) -> bool:
    """Whether the hash at the end is that of the bytes."""
    found = _END.search(content)
    if found is None:
        return False
    blank = content[: found.start(1)] + b"0" * _DIGITS + content[found.end(1) :]
    return hashlib.sha256(blank).hexdigest().encode() == found[1]
