"""A bundle's manifest with other facts and a hash that holds, as a knowing hand would write it."""

import json

from tledge.bundle import seal


def write(path, data):
    """Write `data` as the manifest at `path`."""
    kept = {key: value for key, value in data.items() if key != "sha256"}
    path.write_text(seal.sealed(json.dumps(kept)), encoding="utf-8", newline="\n")
