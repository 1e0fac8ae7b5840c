from pathlib import Path

import pytest
from toy_stream import ToyLearner, ToyStream, picture, toy_trainer

from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources import ImageFolder


def packed(folder: Path, train: range, test: range) -> Path:
    for split, numbers in (("train", train), ("test", test)):
        for number in numbers:
            file = folder / "in" / split / f"class {number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture(number))
    pack(ImageFolder(folder / "in"), folder / "out", PackOptions(val=0.2))
    return folder / "out"


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    # one of the four that both have goes to the first set's own val
    return packed(tmp_path / "a", range(16), range(20, 24)), packed(tmp_path / "b", range(40, 52), range(12, 20))


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_test_pictures_in_another_sets_training_split_are_refused_by_name(sets, verb):
    first, second = sets
    module = ToyStream([ShardSource(first), ShardSource(second)], OpenWorld(), workers=0)
    with pytest.raises(
        UserError, match=rf"3 are, byte for byte: .*test/\S+ of {second} is train/\S+ of {first}.*leaks"
    ):
        module.setup(verb)
    evaluated = ToyStream([ShardSource(first)], OpenWorld(), val=[second], workers=0)
    with pytest.raises(UserError, match="no picture of val or test may be trained on"):
        evaluated.setup(verb)


def test_with_the_option_they_are_named_and_used(sets, tmp_path, caplog):
    first, second = sets
    module = ToyStream(
        [ShardSource(first), ShardSource(second)], OpenWorld(), workers=0, batch_size=4, allow_leaks=True
    )
    toy_trainer(tmp_path, max_epochs=1).fit(ToyLearner(), datamodule=module)
    told = [record.getMessage() for record in caplog.records if "train split" in record.getMessage()]
    assert len(told) == 1
    assert "of the pictures of val and test in other sets' train split: 3 are, byte for byte" in told[0]


def test_sets_that_share_nothing_are_used_without_a_word(sets, tmp_path, caplog):
    third = packed(tmp_path / "c", range(60, 70), range(70, 74))
    ToyStream([ShardSource(sets[0]), ShardSource(third)], OpenWorld(), workers=0).setup("fit")
    assert not caplog.records
