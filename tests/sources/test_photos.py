import os
import pickle
import random
from pathlib import Path

import pytest
from conftest import tiny_policy
from hostile import REFUSED, jpeg, photo

from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.tasks import OpenWorld
from fgvr.errors import SampleError, UserError
from fgvr.shards.loading import StepLoader
from fgvr.shards.order import FixedOrder
from fgvr.sources.photos import Photos, find_photos


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(number))
    return root


def test_photos_are_found_at_any_depth_sorted_and_not_hidden(tmp_path: Path):
    write(tmp_path, "b/x.JPG", "b.png", "a.WebP", "b/deep/er/y.jpeg", ".hidden.jpg", ".cache/z.jpg", "b/Thumbs.db")
    (tmp_path / "notes.txt").write_text("not a photo")
    photos = find_photos(tmp_path)
    assert photos.names == ("a.WebP", "b.png", "b/deep/er/y.jpeg", "b/x.JPG")
    assert photos.reasons == (None,) * 4
    example = pickle.loads(pickle.dumps(photos)).read(3)
    assert (example.uid, example.images, example.label, example.path) == ("b/x.JPG", (jpeg(0),), "", ())


def test_what_cannot_be_a_photo_keeps_its_place_and_its_reason(tmp_path: Path):
    write(tmp_path / "in", "a.jpg", "b.HEIC", "c.jpg")
    write(tmp_path, "out.jpg")
    (tmp_path / "in" / "d.jpg").symlink_to(tmp_path / "out.jpg")
    (tmp_path / "in" / "e.jpg").symlink_to("gone.jpg")
    os.mkfifo(tmp_path / "in" / "f.jpg")
    photos = find_photos(tmp_path / "in")
    assert photos.names == ("a.jpg", "b.HEIC", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
    for number, words in ((1, r"b\.HEIC: .*suffix is '\.HEIC'"), (3, "climbs out"), (4, "regular"), (5, "regular")):
        with pytest.raises(SampleError, match=words):
            photos.read(number)
    photos.files[2].unlink()  # gone after it was listed
    with pytest.raises(SampleError, match=r"c\.jpg must be a file"):
        photos.read(2)


def test_one_photo_is_enough_whatever_its_suffix(tmp_path: Path):
    (tmp_path / "photo").write_bytes(jpeg())
    photos = find_photos(tmp_path / "photo")
    assert photos.names == ("photo",)
    assert photos.read(0).images == (jpeg(),)


def test_names_lead_back_to_their_files(tmp_path: Path):
    spellings = ("\u00e9.jpg", "e\u0301.jpg")  # one name to the eye, two files on Linux
    write(tmp_path, *spellings)
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(jpeg(2))
    assert set(find_photos(tmp_path).names) == {*spellings, "\\xff.jpg"}
    write(tmp_path, "\\xff.jpg")
    with pytest.raises(UserError, match="two are"):
        find_photos(tmp_path)


def test_a_place_without_photos_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="is neither"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds none"):
        find_photos(tmp_path)


def test_links_in_a_circle_and_empty_folders(tmp_path: Path):
    write(tmp_path, "a.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "empty").mkdir()
    photos = find_photos(tmp_path)
    assert photos.names == ("a.jpg", "self.jpg")
    with pytest.raises(SampleError, match=r"^self\.jpg: it must be a regular file, but its link leads nowhere"):
        photos.read(1)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop is neither"):
        find_photos(tmp_path / "loop")


def test_what_a_terminal_would_obey_is_no_part_of_a_name(tmp_path: Path):
    write(tmp_path, "a\x1b[2J\n.jpg", "b.jpg")
    photos = find_photos(tmp_path)
    assert photos.names == ("a\\x1b[2J\\n.jpg", "b.jpg")
    assert photos.read(0).images[0] == (tmp_path / "a\x1b[2J\n.jpg").read_bytes()


def loader(photos: Photos, rank: int, world: int, workers: int = 0) -> StepLoader:
    processor = tiny_policy().processor
    encode, order = PromptEncode(processor, OpenWorld()), FixedOrder(tuple((0, n) for n in range(len(photos))))
    collate = PromptCollate(processor.padding_token, processor.image_token)
    return StepLoader(
        [photos],
        encode,
        collate,
        order,
        2 * world,
        rank=rank,
        world=world,
        workers=workers,
        max_bad_share=1,
        repeat=True,
    )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_photo_is_asked_about_once_on_any_number_of_ranks(tmp_path: Path, world: int):
    write(tmp_path, *(f"{number}.jpg" for number in range(7)))
    for rank in range(world):
        assert len(loader(find_photos(tmp_path), rank, world)) == -(-7 // (2 * world))
    batches = [batch for rank in range(world) for batch in loader(find_photos(tmp_path), rank, world)]
    assert sorted(example.uid for batch in batches for example in batch.examples) == [f"{n}.jpg" for n in range(7)]
    assert all(len(batch.input_ids) == len(batch.examples) for batch in batches)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_hostile_files_are_quarantined_by_name_in_the_worker(tmp_path: Path):
    cases = random.Random(0).sample(sorted(REFUSED), 8)
    for number, case in enumerate(cases):
        (tmp_path / f"{number}.jpg").write_bytes(REFUSED[case][0]())
    photo(1).save(tmp_path / "good.png")
    stream = loader(find_photos(tmp_path), 0, 1, workers=1)
    try:
        batches = list(stream)
    finally:
        stream.close()
    bad = dict(pair for batch in batches for pair in batch.record.quarantined)
    assert sorted(bad) == [f"{number}.jpg" for number in range(8)]
    assert all(uid in reason for uid, reason in bad.items())
    assert [example.uid for batch in batches for example in batch.examples] == ["good.png"]
    assert stream.account().quarantined == 8
