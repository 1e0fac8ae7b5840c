from relatives import Relatives

from fgvr.options import Asked
from fgvr.options.votes import Ranked, Tally
from fgvr.similarity import Classes
from fgvr.taxonomy.tree import Taxonomy

BIRDS = Taxonomy(
    {
        "Ruby Finch": ("Finches", "Roundbill", "Ruby Finch"),
        "Ash Finch": ("Finches", "Roundbill", "Ash Finch"),
        "Tall Finch": ("Finches", "Longbill", "Tall Finch"),
        "Little Owl": ("Owls", "Hooter", "Little Owl"),
    }
)
SOURCE = Relatives().bind(Classes(tuple(BIRDS.paths), BIRDS, photos=lambda name, count: []), {})


def test_the_nearest_of_the_likeliest_come_first():
    votes = Tally((Ranked("Ruby Finch", 3, -1.0), Ranked("Little Owl", 1, -2.0)), {}, 4)
    assert SOURCE.offered(Asked("1", "Little Owl", votes), 3) == ["Ruby Finch", "Ash Finch", "Tall Finch"]
    assert SOURCE.offered(Asked("1", "Little Owl", votes), 2) == ["Ruby Finch", "Ash Finch"]


def test_without_a_vote_there_are_none():
    assert SOURCE.offered(Asked("1", "Little Owl", Tally((), {"unparsed": 4}, 4)), 3) == []
