from class_names import DATA_SETS, RIGHT_ANSWERS

from fgvr.judges.phrases import CORE, EITHER, FILLERS, TALK, TALK_WHOLE, TALK_WITHIN
from fgvr.taxonomy.lexicon import Written

NAMES = [name for names in DATA_SETS.values() for name in names]
NAMES += [answer for pairs in RIGHT_ANSWERS.values() for _, answer in pairs]


def test_no_word_of_a_real_name_is_talk() -> None:
    words = {word for name in NAMES for word in Written.of(name).words}
    assert words & (TALK | EITHER | TALK_WHOLE) == set()
    assert [name for name in NAMES if TALK_WITHIN.search(name)] == []


def test_no_real_name_is_made_of_fillers_alone() -> None:
    assert [name for name in NAMES if set(Written.of(name).words) <= FILLERS] == []


def test_the_words_are_as_an_answer_is_read() -> None:
    assert CORE <= TALK
    for word in TALK | FILLERS | TALK_WHOLE | EITHER:
        assert Written.of(word).words == (word,)
        assert Written.of(word.upper()).words == (word,)
