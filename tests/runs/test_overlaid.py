from pathlib import Path

from fgvr.runs.overlaid import replaced_lists

FIRST = """
trainer:
  max_steps: 3
  callbacks:
    - class_path: fgvr.callbacks.JudgeValidation
      init_args: {pictures: 0}
    - class_path: fgvr.callbacks.Throughput
data: {class_path: D, init_args: {train: [{path: data/birds}], val: [a, b]}}
"""


def files(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"{number}.yaml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_a_list_in_a_later_file_says_what_it_replaced(tmp_path: Path) -> None:
    first, second = paths = files(tmp_path, FIRST, "trainer: {callbacks: [{class_path: fgvr.callbacks.Throughput}]}")
    assert replaced_lists(paths) == [
        f"{second} puts its own trainer.callbacks in the place of those in {first} (JudgeValidation, Throughput): "
        "write `callbacks+:` to add to them."
    ]


def test_every_list_counts_and_the_latest_is_what_is_replaced(tmp_path: Path) -> None:
    paths = files(tmp_path, FIRST, "data: {init_args: {train: [{path: x}], val: []}}", "data: {init_args: {val: [c]}}")
    said = replaced_lists(paths)
    assert [line.split(" (")[1].split("):")[0] for line in said] == ["data/birds", "a, b", "none"]
    assert f"in {paths[1]} (none)" in said[2]


def test_what_is_added_or_the_same_replaces_nothing(tmp_path: Path) -> None:
    more = "trainer: {max_steps: 4, callbacks+: [{class_path: X}]}\ndata: {init_args: {val: [a, b]}}"
    assert replaced_lists(files(tmp_path, FIRST, more, "")) == []
    assert replaced_lists(files(tmp_path, FIRST)) == []
