"""Nothing but the input, in which words are hidden."""

from tledge.data.labels.no_label import MISSING, VALUES, WIDTH, find, names_of

__all__ = ["MISSING", "VALUES", "WIDTH", "find", "names_of"]
