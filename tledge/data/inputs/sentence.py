"""Texts that become vectors, which are stored as other texts are."""

from tledge.data.inputs.text import IS_COSTLY, NAMES, NOUN, RENAME, SIZES, TYPES, find, read

__all__ = ["IS_COSTLY", "NAMES", "NOUN", "RENAME", "SIZES", "TYPES", "find", "read"]
