import json
import os

import pytest

from fgvr.whole_files import write_whole


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "manifest.json"
    write_whole(file, b"old")
    with pytest.raises(TypeError):
        write_whole(file, None)  # pyright: ignore[reportArgumentType]
    assert file.read_bytes() == b"old"
    write_whole(file, json.dumps({}).encode())
    assert file.read_bytes() == b"{}"
    assert os.listdir(tmp_path) == ["manifest.json"]
