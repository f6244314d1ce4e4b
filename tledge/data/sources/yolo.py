"""Pictures with boxes that a `data.yaml` names, as those of YOLO."""

from tledge.tables.yolo import SUFFIXES, open_file

__all__ = ["SUFFIXES", "open_file"]
