"""Labelled rows from the user's files to four disjoint splits on disk."""

from tledge.data.domain import Domain, open_domain
from tledge.data.language import Blocks, open_blocks, pack, tokenizer_digest
from tledge.data.load import columns_of, documents, load
from tledge.data.preview import Preview, preview
from tledge.data.sources import split_places
from tledge.data.splits import draw
from tledge.data.stored import DataReport, Splits, inputs_of, named_files, open_splits
from tledge.data.unlabelled import open_documents, open_unlabelled

__all__ = [
    "Blocks",
    "DataReport",
    "Domain",
    "Preview",
    "Splits",
    "columns_of",
    "documents",
    "draw",
    "inputs_of",
    "load",
    "named_files",
    "open_blocks",
    "open_documents",
    "open_domain",
    "open_splits",
    "open_unlabelled",
    "pack",
    "preview",
    "split_places",
    "tokenizer_digest",
]
