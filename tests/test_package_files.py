"""`package:NAME/PATH`: found without importing, and never outside the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tledge import package_files
from tledge.errors import DataError, ModelError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: the distribution `my-toy.data` installs `toydata_files`."""
    package = tmp_path / "toydata_files"
    (package / "rows").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "rows" / "train.csv").write_text("text,label\na,b\n")
    info = tmp_path / "my_toy_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-toy.data\nVersion: 1.0\n")
    (info / "RECORD").write_text("toydata_files/__init__.py,,\ntoydata_files/rows/train.csv,,\n")
    (tmp_path / "toy_single_module.py").write_text("")
    (tmp_path / "secret.csv").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["toydata_files", "my-toy.data", "my-toy-data", "My_Toy_Data"])
def test_import_and_distribution_names_are_found_and_not_imported(site: Path, name: str) -> None:
    found = package_files.resolve(f"package:{name}/rows/train.csv", error=DataError)
    assert found == site / "toydata_files" / "rows" / "train.csv"
    assert "toydata_files" not in sys.modules


def test_a_folder_is_found(site: Path) -> None:
    assert package_files.resolve("package:toydata_files/rows", error=ModelError).is_dir()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("package:no-such-thing-here/x.csv", "is not installed; run: pip install no-such-thing-here"),
        ("package:toy_single_module/x.csv", "is not installed"),
        ("package:toydata_files/../secret.csv", "leads out of the package"),
        ("package:toydata_files//etc/hosts", "leads out of the package"),
        ("package:toydata_files/rows\\..\\..\\secret.csv", "leads out of the package"),
        ("package:toydata_files/C:/secret.csv", "leads out of the package"),
        ("package:toydata_files/rows/trian.csv", "has no 'rows/trian.csv'; did you mean 'train.csv'?"),
        ("package:toydata_files/zzz", "has no 'zzz'; at its top are rows"),
        ("package:toydata_files", "expected package:NAME/PATH"),
        ("package:/x", "expected package:NAME/PATH"),
    ],
)
def test_mistakes_are_one_line_of_the_callers_class(site: Path, reference: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        package_files.resolve(reference, error=ModelError)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need rights there")
def test_a_file_that_the_installer_linked_is_inside(site: Path) -> None:
    (site / "toydata_files" / "linked.csv").symlink_to(site / "secret.csv")
    found = package_files.resolve("package:toydata_files/linked.csv", error=DataError)
    assert found.read_text() == ""
