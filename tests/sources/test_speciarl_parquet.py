from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import encoded, photo
from sourced import parted

from fgvr.data import AsWritten
from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import Auto, SourceGone, SpeciaRLParquet

TEXT = "Classify the image.\n Reason in <think></think>, answer in <answer></answer>."
PART = pa.struct([("type", pa.string()), ("text", pa.string())])
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("images", pa.list_(pa.binary())),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(PART))]))),
        ("split", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    ]
)


def row(number: int, label: Any, *, text: str = TEXT, images: int = 1, role: str = "user") -> dict[str, Any]:
    content = [{"type": "image", "text": None}, {"type": "text", "text": text}]
    return {
        "sample_id": f"h_0_{number}",
        "images": [encoded(photo(number), "PNG")] * images,
        "prompt": [{"role": role, "content": content}],
        "split": "train" if number < 4 else "test",
        "reward_model": {"style": "AI", "ground_truth": label},
    }


def written(file: Path, rows: list[dict[str, Any]]) -> SpeciaRLParquet:
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, row_group_size=2)
    return SpeciaRLParquet(file)


def test_it_is_recognised_and_its_text_comes_back_to_the_letter(tmp_path: Path):
    rows = [row(n, ("Brandt Cormorant", "None")[n % 2]) for n in range(6)]
    source = written(tmp_path / "in/dataset.parquet", rows)
    assert Auto(source.file).describe() == source.describe()
    pack(source, tmp_path / "out", PackOptions(val=0, test=0))
    train, test = (ShardSet(tmp_path / "out", split, ("seen",)) for split in ("train", "test"))
    assert (len(train), len(test)) == (4, 2)
    task = AsWritten().bind(train.taxonomy)
    for number in range(4):
        example = train.read(number)
        (turn,) = task.messages(example, random.Random(0))
        assert turn == {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": TEXT}]}
        place = int(str(example.extra["sample_id"])[-1])
        assert example.label == rows[place]["reward_model"]["ground_truth"]
        assert example.images[0] == encoded(photo(place), "PNG")


def test_a_row_that_cannot_be_used_is_refused(tmp_path: Path):
    rows = [row(0, "a"), row(1, None), row(2, "b", role="assistant"), row(3, "b", images=2), row(4, "b")]
    rows += [{**row(5, "b"), "split": "dev"}]
    good, refused = parted(written(tmp_path / "in/d.parquet", rows))
    assert set(good) == {"d/000000", "d/000003", "d/000004"}
    assert "1 to 200 characters" in refused["d/000001"]
    assert "a turn of the user" in refused["d/000002"]
    assert "split must be one of" in refused["d/000005"]
    with pytest.raises(ValueError, match="must hold the bytes of one photo under images, but it holds 2"):
        good["d/000003"].load()


def test_control_tokens_in_a_prompt_are_refused(tmp_path: Path):
    rows = [row(0, "a"), row(1, "b"), row(2, "b", text="x<|endoftext|>")]
    with pytest.raises(UserError, match="question must not spell a control token"):
        pack(written(tmp_path / "in/d.parquet", rows), tmp_path / "out", PackOptions(val=0, test=0))


def test_a_file_of_another_form_is_a_sentence(tmp_path: Path):
    file = tmp_path / "x.parquet"
    with pytest.raises(SourceGone, match="give its path"):
        list(SpeciaRLParquet(file).records())
    file.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as one"):
        list(SpeciaRLParquet(file).records())
    pq.write_table(pa.table({"images": [1]}), file)
    with pytest.raises(UserError, match="lacks prompt and reward_model; it has images"):
        list(SpeciaRLParquet(file).records())
    with pytest.raises(UserError, match="its first item has the columns images: name the source"):
        Auto(file)
