"""What the name of a Stanford Cars class is made of: make, model, body type and year."""

from __future__ import annotations

import re
from typing import NamedTuple

MAKES = ("AM General", "Aston Martin", "Land Rover")  # of two words; any other make is one
CABS = ("Crew", "Extended", "Regular", "Club", "Quad")
BODIES = (
    *(f"{cab} Cab" for cab in CABS),
    *("Cargo Van", "Passenger Van", "SuperCab", "Sedan", "Coupe", "Convertible", "SUV"),
    *("Hatchback", "Wagon", "Minivan", "Van"),
)


class Car(NamedTuple):
    """A class in its parts; `body` and `year` are empty where the name has none. `model` begins with the make."""

    make: str
    model: str
    body: str
    year: str


def car_of(name: str) -> Car:
    """Of "Audi S4 Sedan 2012": Audi, Audi S4, Sedan and 2012."""
    rest, _, year = name.rpartition(" ")
    if not re.fullmatch(r"(?:19|20)\d\d", year):
        rest, year = name, ""
    make = next((one for one in MAKES if rest.startswith(f"{one} ")), rest.split(" ")[0])
    body = next((one for one in BODIES if rest.endswith(f" {one}") and len(rest) > len(f"{make} {one}")), "")
    return Car(make, rest.removesuffix(f" {body}") if body else rest, body, year)
