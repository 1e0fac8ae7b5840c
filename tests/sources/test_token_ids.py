from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_rows import row, written

from fgvr.errors import UserError
from fgvr.sources import (
    CSV,
    ChoiceJSON,
    ClosedWorldJSON,
    MessagesJSON,
    MetadataFolder,
    Source,
    SpeciaRLParquet,
    TripletParquet,
)
from fgvr.sources.token_ids import TOKEN_IDS

IDS = [151644, 77091, 151645]  # Qwen's <|im_start|>, assistant, <|im_end|>
SAID = [{"role": "user", "content": "Which?", "token_ids": IDS}, {"role": "assistant", "content": "<answer>a</answer>"}]


def lines(file: Path, *items: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return file


def table(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), file)
    return file


def csv_with(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def triplets(file: Path) -> Path:
    rows = pq.read_table(written(file, [row(0, "Robin"), row(1, "Wren")]))
    pq.write_table(rows.append_column("input_ids", pa.array([IDS] * len(rows))), file)
    return file


def sources(folder: Path) -> dict[str, Source]:
    choice = {"image_path": "a.png", "problem": "Which?", "solution": "<answer>a</answer>"}
    closed = {"image_path": "a.png", "question": "Which?", "options": ["a", "b"], "ground_truth": "a"}
    (folder / "hf").mkdir()
    csv_with(folder / "hf/metadata.csv", "file_name,label,prompt_token_ids\na.png,wren,151645\n")
    asked = {"images": [b"x"], "prompt": "Which?", "reward_model": {"ground_truth": "a"}, "prompt_ids": IDS}
    return {
        "csv": CSV(csv_with(folder / "a.csv", "file,label,input_ids\na.png,wren,151645\n")),
        "choice": ChoiceJSON(lines(folder / "a.jsonl", choice, choice | {"input_ids": IDS})),
        "closed": ClosedWorldJSON(lines(folder / "b.jsonl", closed | {"completion_ids": IDS})),
        "messages": MessagesJSON(lines(folder / "c.jsonl", {"messages": SAID, "images": ["a.png"]})),
        "folder": MetadataFolder(folder / "hf"),
        "speciarl": SpeciaRLParquet(table(folder / "a.parquet", **asked)),
        "triplets": TripletParquet(triplets(folder / "b.parquet")),
    }


@pytest.mark.parametrize("kind", ["csv", "choice", "closed", "messages", "folder", "speciarl", "triplets"])
def test_tokens_given_by_their_ids_are_refused_by_column(tmp_path: Path, kind: str):
    source = sources(tmp_path)[kind]
    with pytest.raises(
        UserError, match=r"must bring texts, .* but it has token ids under \w+_ids: take them out"
    ) as said:
        list(source.records())
    assert any(f"under {name}:" in str(said.value) for name in TOKEN_IDS)
