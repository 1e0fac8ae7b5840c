"""Makers of aircraft, said before a designation that a taxonomy has without them."""

from __future__ import annotations

import re
from collections.abc import Collection

from fgvr.taxonomy.spelling import PART, cut, singular
from fgvr.taxonomy.vehicles import AIRCRAFT_MAKERS, YEAR, has_digit

_MOST = 4  # words of a maker's name
_SHARE = 0.3  # of the names of a taxonomy of aircraft whose builder is known
_LOCKHEED = "Lockheed|Lockheed Corporation|Lockheed Martin"
_BRITISH = "BAE|BAE Systems|British Aerospace|Hawker|Hawker Siddeley"
_BOMBARDIER = "Bombardier|Bombardier Aerospace|Canadair"
_NORTHROP = "Northrop|Northrop Grumman"


def _makers(listed: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_singulars(cut(maker)) for maker in listed.split("|"))


def _singulars(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(singular, words))


# Who builds, or took over, what goes by a designation: its words run together must match. Others never built it.
_BUILDERS = tuple(
    (re.compile(pattern), _makers(listed))
    for pattern, listed in (
        (r"717.*", "Boeing|McDonnell Douglas"),
        (r"7[0-8]7.*|b(?:17|29|47|52).*|p8.*|e[37]|kc(?:46|135).*|ch47.*", "Boeing"),
        (r"a(?:3\d\d|220|400m).*", "Airbus"),
        (r"atr\d+.*", "ATR"),
        (r"an\d+.*", "Antonov"),
        (r"tu\d+.*", "Tupolev"),
        (r"il\d+.*", "Ilyushin"),
        (r"yak\d+.*", "Yakovlev"),
        (r"mig\d+.*", "Mikoyan|Mikoyan-Gurevich"),
        (r"su\d+.*", "Sukhoi"),
        (r"ka\d+.*", "Kamov"),
        (r"mi\d+.*", "Mil"),
        (r"dc\d+.*|c47.*", "Douglas|Douglas Aircraft Company|McDonnell Douglas"),
        (r"(?:md\d+|c17|f15|f4|av8|fa?18).*", "McDonnell Douglas|McDonnell|Boeing"),
        (r"dhc?\d+.*", "de Havilland|de Havilland Canada|Bombardier"),
        (r"crj\d+.*|challenger.*|global.*", _BOMBARDIER),
        (r"(?:e1[79]\d|emb\d+|erj\d+|legacy|phenom).*", "Embraer"),
        (r"(?:[aekl]?c130|c5|c141|l1011|p3|sr71|u2|f22|f35|f104|f117).*", _LOCKHEED),
        (r"f16.*", f"General Dynamics|{_LOCKHEED}"),
        (r"(?:b2|rq4|f5|t38)[a-z]?", _NORTHROP),
        (r"(?:f14|e2|ea?6|f6f)[a-z]*", "Grumman|Northrop Grumman"),
        (r"b1b?", "Rockwell|Boeing"),
        (r"(?:xb70|p51|b25|f86|t6).*", "North American"),
        (r"a10.*", "Fairchild|Fairchild Republic|Republic"),
        (r"v22.*", "Bell|Bell Boeing|Boeing"),
        (r"mq9.*|mq1.*", "General Atomics"),
        (r"metro(?:liner)?.*", "Fairchild|Swearingen"),
        (r"spitfire.*", "Supermarine"),
        (r"tornado.*", "Panavia"),
        (r"typhoon.*", "Eurofighter"),
        (r"hawk(?:t\d+)?|(?:bae)?1(?:25|46).*", _BRITISH),
        (r"(?:falcon|rafale|mirage).*", "Dassault|Dassault Aviation"),
        (r"(?:dornier|do)\d+.*", "Dornier|Fairchild|Fairchild Dornier"),
        (r"citation.*", "Cessna"),
        (r"(?:model|kingair|1900|baron|bonanza).*", "Beechcraft"),
        (r"pa\d+.*", "Piper"),
        (r"sr2\d.*", "Cirrus|Cirrus Aircraft"),
        (r"dr\d+.*", "Robin"),
        (r"pc\d+.*", "Pilatus"),
        (r"jas39.*|gripen.*", "Saab"),
        (r"gulfstream.*", "Gulfstream|Gulfstream Aerospace"),
    )
)
_KNOWN = frozenset(map(_singulars, AIRCRAFT_MAKERS)).union(*(makers for _, makers in _BUILDERS))


def of_aircraft(names: Collection[str]) -> bool:
    """Whether the names of a taxonomy are those of aircraft, going by the share whose builder is known."""
    return sum(_builders(cut(name)) is not None for name in names) >= _SHARE * len(names)


def without_maker(words: tuple[str, ...], aircraft: bool) -> tuple[str, tuple[str, ...]] | None:
    """The maker of aircraft at the start of a text (by `cut`), and the rest, where that maker may have built it.

    It may where it is known to; or in a taxonomy of `aircraft` where nobody is known to and the rest holds a digit, and
    neither a year nor another maker's name.
    """
    for length in range(min(_MOST, len(words) - 1), 0, -1):
        maker, rest = _singulars(words[:length]), words[length:]
        if maker in _KNOWN:
            return (" ".join(maker), rest) if _may_build(maker, rest, aircraft) else None
    return None


def makers_among(names: Collection[str]) -> set[str]:
    """The makers of aircraft among the names, as `without_maker` has them."""
    return {" ".join(words) for words in map(_singulars, map(cut, names)) if words in _KNOWN}


def _may_build(maker: tuple[str, ...], rest: tuple[str, ...], aircraft: bool) -> bool:
    builders = _builders(rest)
    if builders is not None:
        return maker in builders
    if any(_singulars(rest[:length]) in _KNOWN for length in range(1, _MOST + 1)):
        return rest[0] == maker[0]  # "Cessna Cessna 172"
    return aircraft and has_digit(rest) and not any(map(YEAR.fullmatch, rest))


def _builders(words: tuple[str, ...]) -> frozenset[tuple[str, ...]] | None:
    text = "".join(word for word in words if word != PART)
    return next((makers for pattern, makers in _BUILDERS if pattern.fullmatch(text)), None)
