"""What is told of texts that are alike: nothing here, since the columns that rows have say what they are."""

from tledge.data.labels.no_label import CODE, MISSING, VALUES, WIDTH, find, names_of

__all__ = ["CODE", "MISSING", "VALUES", "WIDTH", "find", "names_of"]
