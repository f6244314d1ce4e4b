"""Paths of images in which objects are found, and folders of them."""

from tledge.cli.values.image import STOPS, expanded

__all__ = ["STOPS", "expanded"]
