"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tledge.data.sources.source import Options, Row, Source
from tledge.errors import DataError

SUFFIXES = (".parquet",)


def open_file(path: Path, options: Options) -> Source:  # noqa: ARG001
    """The rows of a Parquet file.

    Raises:
        DataError: the file is not Parquet.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is no Parquet file: {str(error).partition(chr(10))[0]}") from error
    return Source(path.name, tuple(file.schema_arrow.names), _rows(file, path.name), file.metadata.num_rows)


def _rows(file: pq.ParquetFile, name: str) -> Iterator[Row]:
    number = 0
    for batch in file.iter_batches():
        for cells in batch.to_pylist():
            number += 1
            yield Row(f"{name}:{number}", cells)
