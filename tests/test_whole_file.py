"""What is written appears whole, and on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.errors import ArgumentError
from rl_framework.experiment.folders import new_folder
from rl_framework.whole_file import temporary_folder, written_whole


@pytest.mark.parametrize("address", ["s3://bucket/film.mp4", Path("s3://bucket/film.mp4"), "gdrive://folder/film.mp4"])
def test_an_address_makes_no_folder_of_that_name(address: str | Path, tmp_path: Path) -> None:
    for write in (written_whole, temporary_folder):
        with (
            pytest.raises(ArgumentError, match=r"film\.mp4.*is no path of this machine.*StorageConnector"),
            write(address),
        ):
            raise AssertionError("nothing is to be written")
    with pytest.raises(ArgumentError, match=r"run_directory=.*connector 'storage'"):
        new_folder(str(Path(address)), "run")  # as the command line gives it
    assert list(tmp_path.iterdir()) == []


def test_after_a_failure_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file.txt", "before")]
    with written_whole(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
