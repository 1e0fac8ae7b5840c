"""What is left out when cars and aircraft are named, the maker, the body type and the year, and makers in short."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain, combinations

from fgvr.taxonomy.spelling import PART, cut, singular

YEAR = re.compile(r"(?:19|20)\d\d")
_CAR_MAKERS = frozenset(
    cut(maker)
    for maker in """
Abarth|Acura|Alfa Romeo|Alpine|AM General|Aston Martin|Audi|Austin|BAIC|Bentley|BMW|Bugatti|Buick|BYD|Cadillac|Changan|
Chery|Chevrolet|Chevy|Chrysler|Citroen|Cupra|Dacia|Daewoo|Daihatsu|Daimler|Datsun|Dodge|Dongfeng|DS|Eagle|Ferrari|Fiat|
Fisker|Ford|GAC|Geely|Genesis|Geo|GMC|Great Wall|Haval|Holden|Honda|Hongqi|Hummer|Hyundai|Infiniti|Isuzu|Iveco|JAC|
Jaguar|Jeep|Jensen|Kia|Koenigsegg|Lada|Lamborghini|Lancia|Land Rover|Lexus|Lincoln|Lotus|Lucid|Maserati|Maybach|Mazda|
McLaren|Mercedes|Mercedes-Benz|Mercury|MG|MINI|Mitsubishi|Morgan|Nio|Nissan|Oldsmobile|Opel|Pagani|Peugeot|Plymouth|
Polestar|Pontiac|Porsche|Proton|Ram|Renault|Rivian|Roewe|Rolls-Royce|Rover|Saab|Saturn|Scion|Seat|Skoda|Smart|Spyker|
SsangYong|Subaru|Suzuki|Tata|Tesla|Toyota|Triumph|TVR|Vauxhall|Volkswagen|Volvo|VW|Wuling|Xpeng
""".replace("\n", "").split("|")
)
AIRCRAFT_MAKERS = frozenset(
    cut(maker)
    for maker in """
Aermacchi|Aerospatiale|AgustaWestland|Airbus|Antonov|ATR|Avro|BAE|BAE Systems|Beechcraft|Bell|Boeing|Bombardier|
Bombardier Aerospace|British Aerospace|Britten-Norman|Canadair|Cessna|Cirrus|Cirrus Aircraft|Comac|Convair|Dassault|
Dassault Aviation|de Havilland|Diamond|Dornier|Douglas|Douglas Aircraft Company|Embraer|English Electric|Eurocopter|
Eurofighter|Fairchild|Fokker|General Dynamics|Grumman|Gulfstream|Gulfstream Aerospace|Hawker|Hawker Siddeley|Heinkel|
Ilyushin|Junkers|Kamov|Lockheed|Lockheed Corporation|Lockheed Martin|Learjet|McDonnell|McDonnell Douglas|Messerschmitt|
Mikoyan|Mil|Mooney|North American|Northrop|Northrop Grumman|Panavia|Piaggio|Pilatus|Piper|Robin|Robinson|Rockwell|Saab|
Shorts|Sikorsky|Sukhoi|Supermarine|Swearingen|Tupolev|Vickers|Westland|Yakovlev
""".replace("\n", "").split("|")
)
_MAKERS = _CAR_MAKERS | AIRCRAFT_MAKERS
_IN_FULL = {  # what makers are called for short, as `singular` leaves it
    singular(short): tuple(map(singular, cut(full)))
    for short, full in (
        ("alfa", "Alfa Romeo"),
        ("chevy", "Chevrolet"),
        ("mercedes", "Mercedes-Benz"),
        ("vw", "Volkswagen"),
    )
}
_CABS = frozenset({"club", "crew", "double", "extended", "king", "mega", "quad", "regular", "super"})  # of a cab
_BODIES = frozenset(
    cut(
        """
        cabriolet conv convertible coupe crossover estate fastback hatchback minivan mpv pickup roadster saloon sedan
        supercab suv truck van wagon
        """
    )
)


def has_digit(words: Collection[str]) -> bool:
    return any(c.isdecimal() for word in words for c in word)


def year_last(words: tuple[str, ...]) -> tuple[str, ...]:
    """With the one year in three words or more at the end, and no separator or "from" before it."""
    years = [place for place, word in enumerate(words) if YEAR.fullmatch(word)]
    if len(years) != 1 or len(words) < 3:
        return words
    (place,) = years
    before, after = words[:place], words[place + 1 :]
    if before[-1:] == (PART,) or (before[-1:] == ("from",) and not after and len(before) > 2):
        before = before[:-1]
    if after[:1] == (PART,):
        after = after[1:]
    return (*before, *after, words[place])


def maker_in_full(words: tuple[str, ...]) -> tuple[str, ...]:
    """With the maker at the start, in the singular, as it is written in full: "chevrolet" for "chevy"."""
    full = _IN_FULL.get(words[0]) if len(words) > 1 else None
    return words if full is None or words[: len(full)] == full else (*full, *words[1:])


def shortened(words: tuple[str, ...], makers: Collection[tuple[str, ...]], numbered: bool) -> set[tuple[str, ...]]:
    """A vehicle's name (by `cut`) without its maker, its body type or both; empty for what names no vehicle.

    A name is a vehicle's by a known maker or a year, and by a digit in it or, with `numbered`, in most names of its
    taxonomy: the Lincoln of a sparrow is no maker. Where only `makers` knows the maker, the rest must hold a digit.
    """
    if not (numbered or has_digit(words)):
        return set()
    maker = max((_leading(words, known) for known in (_MAKERS, makers)), default=0)
    if not maker and not any(YEAR.fullmatch(word) for word in words):
        return set()
    named = _leading(words, _MAKERS) > 0
    found: set[tuple[str, ...]] = set()
    for start in {0, maker}:
        for dropped in _some_of(_body_places(words, start)):
            rest = tuple(word for place, word in enumerate(words) if place >= start and place not in dropped)
            known = start == 0 or (named and numbered) or has_digit(rest)
            if len(rest) < len(words) and known and _tells(rest[maker if start == 0 else 0 :]):
                found.add(rest)
    return found


def yearless(words: tuple[str, ...], makers: Collection[tuple[str, ...]], numbered: bool) -> set[tuple[str, ...]]:
    """A vehicle's name (by `cut`) without its year, its maker and body type left in or out; empty where it has no year.

    Without maker and year two words or more must be left: any ghost is no Rolls-Royce.
    """
    words = year_last(words)
    if len(words) < 3 or not YEAR.fullmatch(words[-1]):
        return set()
    maker = max((_leading(words[:-1], known) for known in (_MAKERS, makers)), default=0)
    found: set[tuple[str, ...]] = set()
    for rest in {words, *shortened(words, makers, numbered)}:
        name = rest[:-1]
        named = maker if name[:maker] == words[:maker] else 0
        if _tells(name[named:]) and (named or len([word for word in name if word not in _BODIES]) > 1):
            found.add(name)
    return found


def without_year(words: tuple[str, ...], makers: Collection[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """All of a name (by `cut`) but its year, with and without its maker; empty where it has no year."""
    words = year_last(words)
    if len(words) < 3 or not YEAR.fullmatch(words[-1]):
        return set()
    maker = max((_leading(words[:-1], known) for known in (_MAKERS, makers)), default=0)
    return {words[:-1], words[maker:-1]}


def _leading(words: tuple[str, ...], makers: Collection[tuple[str, ...]]) -> int:
    """How many words at the start are a maker's name, which must leave something."""
    return max((n for n in range(1, min(5, len(words))) if words[:n] in makers), default=0)


def _body_places(words: tuple[str, ...], start: int) -> list[tuple[int, ...]]:
    places: list[tuple[int, ...]] = []
    for place in range(start, len(words)):
        if words[place] == "cab" and place > start and words[place - 1] in _CABS:
            places.append((place - 1, place))
        elif words[place] in _BODIES:
            places.append((place,))
    return places


def _some_of(places: list[tuple[int, ...]]) -> list[set[int]]:
    return [
        set(chain.from_iterable(some)) for count in range(len(places) + 1) for some in combinations(places[:4], count)
    ]


def _tells(rest: tuple[str, ...]) -> bool:
    """Whether more is left than a year, a body type, a letter, or a number that could be a score."""
    telling = [word for word in rest if word not in _BODIES and not YEAR.fullmatch(word) and word != PART]
    text = "".join(telling)
    if len(rest) == 1 and text.isdecimal():
        return len(text) > 2 and not text.endswith("00")
    return len(text) > 1
