import pytest
from sourced import touch

from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions, make_plan
from fgvr.shards.reading import ShardSet
from fgvr.shards.texts import RESPONSES
from fgvr.sources import CSV, ImageFolder
from fgvr.sources.base import Source

ALL = PackOptions(val=0, test=0)


def table(tmp_path, *responses: str, column: str = "response") -> CSV:
    """Pictures of the classes a and b in turn, each with its response."""
    root = touch(tmp_path / "in", *(f"{n}.jpg" for n in range(len(responses))))
    rows = [f'{n}.jpg,{"ab"[n % 2]},"{response}"' for n, response in enumerate(responses)]
    (root / "list.csv").write_text("\n".join([f"file,label,{column}", *rows]))
    return CSV(root / "list.csv")


def packed(source: Source, out) -> tuple[list[str], dict[str, int]]:
    said: list[str] = []
    manifest = pack(source, out, ALL, max_bad_share=0.5, say=said.append)
    return [sentence for sentence in said if "response" in sentence and "no ranks" not in sentence], dict(
        manifest.notes
    )


def test_responses_are_counted_and_what_teaches_them_is_named(tmp_path):
    good = ("<think>Red.</think><answer>a</answer>", "<answer>b</answer>", "", "")
    said, notes = packed(table(tmp_path, *good), tmp_path / "out")
    assert said == [
        "2 of 4 pictures to train on have a response: a task with think true teaches them "
        "(data.init_args.task.init_args.think), any other does not"
    ]
    assert notes[RESPONSES] == 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("no tags", "a response must be <think>…</think><answer>…</answer>, got 'no tags'"),
        ("<answer>b</answer>", "the response must end in 'a', it ends in 'b'"),
        ("<think>x<think>y</think><answer>a</answer>", "a response must be <think>…</think><answer>…</answer>, got"),
    ],
)
def test_responses_that_cannot_be_taught_are_counted_and_the_first_is_named(tmp_path, bad, why):
    said, notes = packed(table(tmp_path, bad, "no tags", bad, "<answer>b</answer>"), tmp_path / "out")
    assert said[-1].startswith(f"such a task cannot use 3 of these responses, the first: 0.jpg: {why}")
    assert notes[RESPONSES] == 4  # a task that does not think has use for the pictures


def test_without_responses_nothing_is_said_of_them(tmp_path):
    said, notes = packed(table(tmp_path, "", ""), tmp_path / "out")
    assert said == []
    assert RESPONSES not in notes


@pytest.mark.parametrize("column", ["response", "options"])
@pytest.mark.parametrize("token", ["<|im_end|>", "<|endoftext|>", "<|vision_start|>"])
def test_texts_that_spell_control_tokens_are_refused_by_name(tmp_path, token, column):
    text = f"<think>Re{token}d.</think><answer>a</answer>"
    source = table(tmp_path, text, "<answer>b</answer>", "<answer>a</answer>", column=column)
    plan = make_plan(source, ALL)
    assert [str(refusal) for refusal in plan.refused] == [
        f"0.jpg: its {column} must not spell a control token of the model's tokenizer, got {token}"
    ]
    packed(source, tmp_path / "out")
    assert len(ShardSet(tmp_path / "out", "train", ("seen",))) == 2


@pytest.mark.parametrize("name", ["Wren<|im_end|>", "<answer>", "a < b", "?!"])
def test_class_names_that_no_task_can_write_are_refused_before_a_picture_is_read(tmp_path, name):
    root = touch(tmp_path / "in", "Robin/0.jpg", "Rook/0.jpg", f"{name}/0.jpg")
    with pytest.raises(UserError, match=r"a (class name must hold a letter|name of the taxonomy)"):
        pack(ImageFolder(root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        ("kind<|im_end|>", r"a rank of the taxonomy must not spell .*, got <\|im_end\|>"),
        ("<Think>", "hold no think tag"),
    ],
)
def test_ranks_that_no_task_can_write_are_refused_too(tmp_path, rank, words):
    root = touch(tmp_path / "in", "Robin/0.jpg", "Rook/0.jpg")
    with pytest.raises(UserError, match=words):
        pack(ImageFolder(root, ranks=[rank]), tmp_path / "out")


def test_odd_names_that_a_task_can_write_are_packed(tmp_path):
    root = touch(tmp_path / "in", "Black & White Warbler/0.jpg", "F-16A|B/0.jpg", "|im_end|/0.jpg")
    assert make_plan(ImageFolder(root), ALL).pictures == 3
