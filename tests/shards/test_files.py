import os
import pickle
from pathlib import Path

import pytest

from fgvr.errors import UserError
from fgvr.shards.files import OPEN_FILES, OpenFiles


def test_reads_by_offset_and_keeps_few_files_open(tmp_path: Path):
    count = OPEN_FILES + 8
    for number in range(count):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 4)
    files = OpenFiles(tmp_path)
    before = len(os.listdir("/dev/fd"))
    assert all(files.read(f"{number}.bin", 1, 2) == bytes([number]) * 2 for number in (*range(count), *range(count)))
    assert len(os.listdir("/dev/fd")) - before == OPEN_FILES
    assert files.read("0.bin", 3, 9) == b"\0", "what there is before the end"
    files.close()
    assert len(os.listdir("/dev/fd")) == before
    assert files.read("1.bin", 0, 1) == b"\1", "opened again"
    again = pickle.loads(pickle.dumps(files))
    assert again.read("1.bin", 0, 1) == b"\1"


def test_a_missing_file_is_an_error_and_a_name_stays_in_its_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        OpenFiles(tmp_path).read("none.bin", 0, 1)
    with pytest.raises(UserError, match="lies in its set's folder"):
        OpenFiles(tmp_path).read("../none.bin", 0, 1)
