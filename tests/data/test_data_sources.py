"""Every format as a stream of rows: where each row is, what it holds, and files that cannot be read."""

from __future__ import annotations

import bz2
import gzip
import os
import stat
import subprocess
import sys
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tledge.data.sources import Options, Row, Source, open_source
from tledge.errors import DataError


def read(tmp_path: Path, reference: str, **options: str) -> tuple[Source, list[Row]]:
    source = open_source(reference, "data.train", Options(**options), base=tmp_path)
    return source, list(source.read(None))


def test_csv_rows_carry_the_line_that_they_start_at(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbftext, label\r\n"two\nlines, one ""cell""",a\r\n\r\nlast,b')
    source, rows = read(tmp_path, "t.csv")
    assert source.columns == ("text", "label")
    assert rows == [
        Row("t.csv:2", {"text": 'two\nlines, one "cell"', "label": "a"}),
        Row("t.csv:5", {"text": "last", "label": "b"}),
    ]


@pytest.mark.parametrize("name", ["t.tsv", "T.TSV", "t.tsv.gz"])
def test_tsv_is_separated_by_tabs(tmp_path: Path, name: str) -> None:
    content = b"text\tlabel\na,b\tc\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read(tmp_path, name)[1] == [Row(f"{name}:2", {"text": "a,b", "label": "c"})]


def test_encoding_and_delimiter_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("text;label\ncafé;é\n".encode("utf-16"))
    assert read(tmp_path, "t.csv", encoding="utf-16", delimiter=";")[1][0].cells == {"text": "café", "label": "é"}


TABLE = "text;label\r\nfrüh, sehr;a\r\n"


@pytest.mark.parametrize(
    ("content", "line", "read_as"),
    [
        pytest.param(TABLE.encode(), 2, "with ';' between columns", id="semicolons"),
        pytest.param(b"sep=;\r\n" + TABLE.encode(), 3, "with ';' between columns", id="a line sep=;"),
        pytest.param(("\ufeffsep=;\r\n" + TABLE).encode(), 3, "with ';' between columns", id="a mark before sep=;"),
        pytest.param(
            ("\ufeff" + TABLE.replace(";", "\t")).encode("utf-16-le"), 2, r"in utf-16 with '\t' between columns",
            id="what Excel calls Unicode text",
        ),
        pytest.param(("\ufeff" + TABLE).encode("utf-16-be"), 2, "in utf-16 with ';' between columns", id="big end"),
        pytest.param(TABLE.encode("utf-16-le"), 2, "in utf-16-le with ';' between columns", id="utf-16 without a mark"),
        pytest.param(TABLE.encode("utf-16-be"), 2, "in utf-16-be with ';' between columns", id="and from the big end"),
        pytest.param(bz2.compress(TABLE.encode()), 2, "with ';' between columns", id="packed, and not named so"),
        pytest.param(gzip.compress(TABLE.encode()), 2, "with ';' between columns", id="packed by gzip"),
    ],
)  # fmt: skip
def test_a_csv_file_tells_how_it_is_read(tmp_path: Path, content: bytes, line: int, read_as: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    source, rows = read(tmp_path, "t.csv")
    assert rows == [Row(f"t.csv:{line}", {"text": "früh, sehr", "label": "a"})]
    assert source.read_as == read_as


def test_what_the_recipe_says_goes_before_what_the_file_tells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"sep=;\r\ntext|label\r\na;b|c\r\n")
    source, rows = read(tmp_path, "t.csv", delimiter="|")
    assert (source.read_as, rows) == ("", [Row("t.csv:3", {"text": "a;b", "label": "c"})])


@pytest.mark.parametrize("header", ["text,a;b", "text;a|b"])
def test_a_header_with_several_delimiters_tells_none(tmp_path: Path, header: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n1,2\n", encoding="utf-8")
    assert read(tmp_path, "t.csv")[0].columns == tuple(header.split(","))


@pytest.mark.parametrize("name", ["t.csv.bz2", "t.csv"])
def test_bzip2_that_is_damaged(tmp_path: Path, name: str) -> None:
    packed = bz2.compress(TABLE.encode() * 99)
    (tmp_path / name).write_bytes(packed[:20] + bytes(20) + packed[40:])
    with pytest.raises(DataError, match=r"cannot be unpacked: .*pack it again"):
        read(tmp_path, name)


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "t.jsonl.gz"])
def test_json_lines_keep_types_and_gather_keys(tmp_path: Path, name: str) -> None:
    content = b'{"text": "a"}\n\n{"text": "b\\nc", "label": [1, "x"]}\r\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source, rows = read(tmp_path, name)
    assert source.columns == ("text", "label")
    assert [row.name for row in rows] == [f"{name}:1", f"{name}:3"]
    assert rows[1].cells == {"text": "b\nc", "label": [1, "x"]}


def test_parquet_reads_only_wanted_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None], "label": [["x"], []], "big": [0, 1]}), tmp_path / "t.parquet")
    source = open_source("t.parquet", "data.train", Options(), base=tmp_path)
    assert source.columns == ("text", "label", "big")
    assert list(source.read({"text", "label"})) == [
        Row("t.parquet:1", {"text": "a", "label": ["x"]}),
        Row("t.parquet:2", {"text": None, "label": []}),
    ]
    assert source.done() == source.size == 2


def test_rows_after_a_broken_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'text,label\n"a"b,c\nd,e\nf\ng,h\n')
    rows = read(tmp_path, "t.csv")[1]
    assert [(row.name, row.problem is None) for row in rows] == [
        ("t.csv:2", False), ("t.csv:3", True), ("t.csv:4", False), ("t.csv:5", True)
    ]  # fmt: skip


def test_a_parquet_file_damaged_inside_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [f"some words {i * i}" for i in range(3000)]}), path, compression="gzip")
    content = bytearray(path.read_bytes())
    content[40:4000] = bytes(3960)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet"):
        read(tmp_path, "t.parquet")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nowhere/train.csv", "its folder does not exist either"),
        ("s3://bucket/train.csv", "is a web address (s3)"),
        ("/home/x/https:/example.com/t.csv", "is a web address (https)"),
        ("hub:a/b@", "expected hub:OWNER/NAME"),
    ],
)
def test_a_reference_to_nothing_says_what_to_write(tmp_path: Path, reference: str, said: str) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, reference)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\na,b\n")
    if os.name == "nt" or not os.getuid():  # root may read everything

        def refuse(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.chmod(stat.S_IWUSR)
    with pytest.raises(DataError, match=r"t\.csv cannot be read: Permission denied"):
        read(tmp_path, "t.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataError, match="is no regular file"):
        read(tmp_path, "t.csv")


def test_reading_is_a_stream(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w") as file:
        file.write("text,label\n")
        file.writelines(f"row {i} of many,{i % 2}\n" for i in range(50_000))
    source = open_source("t.csv", "data.train", Options(), base=tmp_path)
    rows = source.read(None)
    assert isinstance(rows, types.GeneratorType)
    assert next(rows).name == "t.csv:2"
    assert 0 < source.done() < source.size / 10
    assert sum(1 for _ in rows) == 49_999
    assert source.done() == source.size == (tmp_path / "t.csv").stat().st_size


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom tledge.data.sources import Options, open_source\n"
        "from tledge.errors import DataError\n"
        "try: open_source('hub:nobody/nothing', 'data.train', Options(), base=Path('.'))\n"
        "except DataError as error: print(error)\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("data.train: cannot load 'hub:nobody/nothing' from the hub: "), done.stderr
    assert "HF_HUB_OFFLINE" in done.stdout
    assert done.stdout.count("\n") == 1
