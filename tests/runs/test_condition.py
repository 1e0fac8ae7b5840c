from __future__ import annotations

from pathlib import Path

import pytest
from small_checkpoints import content, save, save_sharded

from fgvr.checkpoints.format import checkpoints_in, newest_checkpoint, write_checkpoint
from fgvr.runs.condition import examine, judge, place_of, rows_of
from fgvr.whole_files import sealed_line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (1, 2, 3):
        save(tmp_path / "checkpoints", step)
    save_sharded(content(4), tmp_path / "checkpoints" / "step-4.ckpt")
    return tmp_path


def log(path: Path, *places: tuple[int, int]) -> Path:
    path.write_bytes(b"".join(sealed_line({"epoch": epoch, "step": step}) for epoch, step in places))
    return path


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_the_newest_is_the_one_that_a_start_takes_whatever_file_is_damaged(folder: Path):
    """A bit in each file of each checkpoint, latest first, until none is whole."""
    for path in reversed(checkpoints_in(folder / "checkpoints")):
        assert judge(path).whole
        for file in sorted(path.iterdir()):
            before = file.read_bytes()
            flip(file)
            found = examine(folder)
            damaged = next(one for one in found.checkpoints if one.path == path)
            assert not damaged.whole
            assert file.name in damaged.damage[0]
            taken = newest_checkpoint(folder / "checkpoints")
            assert (found.newest.path if found.newest else None) == taken
            file.write_bytes(before)
        flip(path / "state.pt")
    assert examine(folder).newest is None


def test_where_a_run_would_read_on_is_told_by_its_checkpoint(tmp_path: Path):
    assert place_of(save(tmp_path, 1)) is None
    stream = {"epoch": 2, "step": 5, "read": 40, "quarantined": 0}
    write_checkpoint(content(2) | {"SFTData": stream}, tmp_path / "step-2.ckpt")
    assert place_of(tmp_path / "step-2.ckpt") == (2, 5)


def test_rows_are_told_apart_by_the_checkpoint(tmp_path: Path):
    path = log(tmp_path / "samples.jsonl", (0, 0), (0, 1), (1, 0), (1, 1))
    found = rows_of(path, (1, 1))
    assert (found.count, found.later, found.damaged, found.lacks) == (4, 1, (), False)
    assert rows_of(path, (1, 3)).lacks, "the row of (1, 2) is not there"
    assert not rows_of(path, (2, 0)).lacks, "how long an epoch is cannot be told from the log"
    assert not rows_of(path, None).lacks
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"1", b"7", 1), lines[2], lines[3][:-5]]))
    assert rows_of(path, (1, 0)).damaged == (2, 4)
    assert rows_of(log(tmp_path / "rollouts.jsonl", (0, 0)), (0, 9)).lacks is False, "not every step has rollouts"


def test_a_damaged_base_counts_only_where_nothing_stands_in_for_it(tmp_path: Path):
    other = save(tmp_path / "first" / "checkpoints", 7)
    run = tmp_path / "run"
    base = save(run / "base", 7)
    origin = {"digest": judge(base).manifest.digest, "path": str(other)}  # pyright: ignore[reportOptionalMemberAccess]
    (run / "checkpoints").mkdir()
    write_checkpoint(
        content(8) | {"fgvr": {"fingerprint": {"base": origin}}}, run / "checkpoints" / "step-8.ckpt"
    )  # fmt: skip
    assert examine(run).base[0].whole
    flip(base / "state.pt")
    assert not examine(run).base[0].whole
    (base / "manifest.json").unlink()
    assert not examine(run).base[0].whole


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"run: [\n", "while parsing"), (b"\xff\xfe\x00", "decode"), (b"- 1\n", "it holds list, not a mapping")],
)
def test_settings_that_cannot_be_read_are_told(folder: Path, text: bytes, reason: str):
    assert not examine(folder).damage  # nor where there are none yet
    (folder / "config.yaml").write_bytes(text)
    (said,) = examine(folder).damage
    assert "config.yaml must be the run's settings in yaml, but it cannot be read" in said
    assert reason in said


def test_a_manifest_says_what_it_lacks(folder: Path):
    (folder / "checkpoints" / "step-4.ckpt" / "manifest.json").write_text('{"step": 4}')
    assert "damaged manifest.json (it lacks 'sha256')" in examine(folder).checkpoints[0].damage[0]
