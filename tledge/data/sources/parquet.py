"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tledge.errors import DataError
from tledge.tables.source import Options, Row, Source, twice

SUFFIXES = (".parquet",)

BATCH = 1000  # rows read together
BATCH_BYTES = 16_000_000  # and about their bytes, lest images fill the memory


def open_file(path: Path, options: Options) -> Source:  # noqa: ARG001
    """The rows of a Parquet file, counted from 1.

    Raises:
        DataError: the file is not Parquet, is damaged, or names a column twice.
    """
    with _mapped(path):
        file = pq.ParquetFile(path)
    columns = tuple(file.schema_arrow.names)
    again = twice(columns)
    if again is not None:
        raise DataError(f"{path.name} has two columns of the name {again!r}; give each its own name")
    n_bytes = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    batch_size = max(1, min(BATCH, BATCH_BYTES * file.metadata.num_rows // max(1, n_bytes)))
    number = 0

    def read(wanted: Collection[str] | None) -> Iterator[Row]:
        nonlocal number
        with file, _mapped(path):
            for batch in file.iter_batches(batch_size=batch_size, columns=None if wanted is None else list(wanted)):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(f"{path.name}:{number}", cells)

    return Source(path.name, columns, read, file.metadata.num_rows, lambda: number, path)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from error
