"""The exception tree.

::

    TledgeError              exit code 1
    ├── RecipeError          2   a recipe, an override or a command-line argument is wrong
    ├── DataError            3   the user's rows cannot be read, mapped or split
    ├── ModelError           4   a backbone cannot be loaded, or a freeze setting names nothing
    ├── TrainError           5   training cannot go on (no finite loss, nothing trainable)
    ├── ExportError          6   no graph could be made
    │   └── ParityError      6   the graph does not compute what torch computes
    ├── QuantizeError        7   no variant could be made, or none fits the budget
    ├── BundleError          8   a bundle is damaged, incomplete or of an unknown format
    ├── InputError           9   a value given to `predict` cannot be an input of the model
    ├── MissingExtraError   10   a package of an extra is not installed
    ├── DeviceError         14   another machine cannot be reached, lacks something, or broke off
    └── StorageError        15   a disk is full, or a folder cannot be written

`tledge gate` ends with 0 for ACCEPT, 11 for REGRESSION, 12 for ANOMALOUS and 13 for INCONCLUSIVE.

Exit code 0 is success, 1 also stands for a defect of tledge itself (its traceback is then shown), 2 for a misspelt
command line too, and 130 for Ctrl-C.

Every message is one line that says what was wrong, what was got, what was expected or known, and what to do.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class TledgeError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class RecipeError(TledgeError):
    """A recipe, an override or a command-line argument is wrong."""

    exit_code = 2


class DataError(TledgeError):
    """The user's rows cannot be read, mapped or split."""

    exit_code = 3


class ModelError(TledgeError):
    """A backbone cannot be loaded, or a freeze setting names nothing."""

    exit_code = 4


class TrainError(TledgeError):
    """Training cannot go on."""

    exit_code = 5


class ExportError(TledgeError):
    """No graph could be made of the checkpoint."""

    exit_code = 6


class ParityError(ExportError):
    """The graph does not compute what torch computes."""


class QuantizeError(TledgeError):
    """No variant could be made, or none fits the budget."""

    exit_code = 7


class BundleError(TledgeError):
    """A bundle is damaged, incomplete or of an unknown format."""

    exit_code = 8


class InputError(TledgeError):
    """A value given to `predict` cannot be an input of the model."""

    exit_code = 9


class MissingExtraError(TledgeError):
    """A package of an extra is not installed."""

    exit_code = 10

    @classmethod
    def of(cls, error: ImportError, extra: str) -> MissingExtraError:
        """The error for a failed import, with the command that mends it."""
        package = (error.name or str(error)).partition(".")[0]
        return cls(f"the package {package!r} is not installed; run: pip install 'tledge[{extra}]'")


class DeviceError(TledgeError):
    """Another machine cannot be reached, lacks something, or broke off."""

    exit_code = 14


class StorageError(TledgeError):
    """A disk is full, or a folder cannot be written."""

    exit_code = 15

    @classmethod
    def of(cls, error: BaseException) -> StorageError | None:
        """The error that says what a failed write means for the user; `None` where the failure is another.

        Libraries wrap what the system said, and some keep its words alone, so that whole chains are looked at.
        """
        seen: list[BaseException] = []
        while error not in seen:
            seen.append(error)
            words, code, where, why = str(error), None, "", str(error)
            if isinstance(error, OSError):
                code, where, why = error.errno, f"{error.filename}: " if error.filename else "", error.strerror or words
            if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _FULL.search(words):
                return cls(
                    f"{where}the disk is full, or takes no file of this size; what was finished is kept: free some "
                    "space and give the same command again, or choose other places: --out for the run, TMPDIR for "
                    "temporary files, TLEDGE_CACHE for the cache"
                )
            if code == errno.EROFS or isinstance(error, PermissionError):
                return cls(f"{where}{why}; choose a place that can be read and written")
            if "No usable temporary directory" in words:
                return cls("no folder for temporary files can be written; set TMPDIR to one that can")
            error = error.__cause__ or error.__context__ or error
        return None


_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|\d+ requested and \d+ written|"
    r"PytorchStreamWriter failed writing"
)


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """A hint to append to a message: `; did you mean 'x'?`, or an empty string when nothing is close."""
    names = [str(name) for name in known]
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(got.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
