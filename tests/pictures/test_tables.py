import math
import re
from dataclasses import replace

from toy_rollouts import scored_group

from fgvr.pictures.tables import Table, class_table, confusion_table, escaped, rollout_table, shortened


def test_any_group_can_be_written() -> None:
    said = ["", "x" * 100_000, "<b>\x00\x1b[31m\u202e鳥\ud800", "a\nb\r\n" * 100]
    table = rollout_table(scored_group(said, [math.nan, 1e9, -1e9, 0.25], uid="<i>\ud800", cut=[0, 1, 3]))
    assert table.columns == ("exact", "format", "reward", "advantage", "tokens", "cut", "completion")
    assert [row[:-1] for row in table.rows[::3]] == [
        (None, 0.0, None, 0.0, 0, "cut"),
        (0.25, 0.0, 0.25, 0.166667, 500, "cut"),
    ]
    assert [row[-1] for row in table.rows[:3]] == ["", "x" * 1999 + "…", "<b> [31m 鳥"]
    text = table.markdown()
    assert len(text.splitlines()) == 4 + len(said)
    assert not re.search(r"[<>\u202e\ud800]", text)
    assert "x" * 1999 in text
    assert "| none | 0 | none | 0 | 0 | cut |  |" in text


def test_a_group_about_two_photos_says_which_each_completion_is_about() -> None:
    group = scored_group(["a", "b", "c"], [1.0, 0.0, 0.0])
    table = rollout_table(replace(group, rollout=replace(group.rollout, from_positive=1)))
    assert table.columns[-2:] == ("photo", "completion")
    assert [row[-2] for row in table.rows] == ["anchor", "anchor", "positive"]


def test_untrusted_text_stays_text() -> None:
    shown = escaped(shortened("<script>alert('x')</script> | [a](http://b) **c**\n# d_e\u202e `f`"))
    assert not re.search(r"[<>|\[\]()*`_\n\u202e]", shown)
    assert not re.search(r"#(?!\d+;)", shown)
    assert shown.startswith("&#60;script&#62;alert")
    assert escaped("Ruby Finch") == "Ruby Finch"
    assert shortened("y" * 500) == "y" * 79 + "…"


def test_a_table_is_safe_markdown_whatever_its_cells_hold() -> None:
    table = Table(("a|b", "n"), (("<i>", 3), ("_", -0.12345)), title="*t*", note="Two more.")
    assert table.markdown().splitlines() == [
        "**&#42;t&#42;**",
        "",
        "| a&#124;b | n |",
        "|---|---|",
        "| &#60;i&#62; | 3 |",
        "| &#95; | -0.1235 |",
        "",
        "Two more.",
    ]


def test_tables_put_the_worst_first_and_say_what_they_leave_out() -> None:
    classes = {
        "A|a": {"n": 4, "exact": 4, "correct": 4, "parse_failures": 0},
        "B": {"n": 4, "exact": 1, "correct": 3, "parse_failures": 1},
        "C": {"n": 4, "exact": 2, "correct": 2, "parse_failures": 0},
    }
    assert class_table(classes).rows == (("B", 4, 1, 3, 1), ("C", 4, 2, 2, 0), ("A|a", 4, 4, 4, 0))
    assert "| A&#124;a | 4 | 4 | 4 | 0 |" in class_table(classes).markdown()
    assert class_table(classes, most=2).markdown().endswith("\n\n1 more classes are in per_class.csv.")


def test_confusions_are_counted_without_the_right_answers_and_the_unjudged() -> None:
    rows = [
        {"label": "A", "answer": "B", "verdict": "wrong", "unjudged": None},
        {"label": "A", "answer": "A", "verdict": "specific", "unjudged": None},
        {"label": "A", "answer": None, "verdict": None, "unjudged": None},
        {"label": "A", "answer": "B", "verdict": "wrong", "unjudged": None},
        {"label": "A", "answer": "A", "verdict": None, "unjudged": "time-out"},
    ]
    assert confusion_table(rows).rows == (("A", "B", "wrong", 2), ("A", "", "no answer", 1))
