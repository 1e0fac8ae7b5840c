from fgvr.judges.served.quoting import LONGEST, quoted

KEY = "sk-planted-0123456789abcdef"


def test_control_characters_and_lines_are_gone():
    assert quoted(b"one\x1b[2J\r\n two\x07\xff \xe2\x80\xae three") == "one[2J two� three"


def test_text_is_cut():
    assert quoted("a" * 5000) == "a" * (LONGEST - 1) + "…"
    assert quoted(b"a" * LONGEST) == "a" * LONGEST


def test_the_key_is_struck_out_wherever_it_stands():
    assert quoted(f"you sent {KEY}, twice {KEY}", KEY) == "you sent [key], twice [key]"
    assert quoted(f"Bearer {KEY[:14]}***", KEY) == "Bearer [key]***"
    assert quoted(f"cut by control{KEY[:9]}\x1b{KEY[9:]}", KEY) == "cut by control[key]"


def test_a_key_at_the_cut_leaves_no_piece_behind():
    for before in range(LONGEST - len(KEY) - 2, LONGEST + 2):
        shown = quoted("." * before + KEY + "." * 300, KEY)
        assert not any(KEY[n : n + 8] in shown for n in range(len(KEY)))


def test_a_short_key_is_struck_out_whole():
    assert quoted("abc abcd", "abcd") == "abc [key]"
    assert quoted("nothing to hide", "") == "nothing to hide"
