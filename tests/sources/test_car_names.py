from __future__ import annotations

from fgvr.sources.car_names import car_of
from fgvr.sources.protocols import _fine_r1_lists


def test_the_196_cars_are_of_49_makes():
    names = [name for side in _fine_r1_lists()["StanfordCars"].values() for name in side]
    cars = [car_of(name) for name in names]
    assert (len(cars), len({car.make for car in cars})) == (196, 49)
    assert all(car.year and car.model.startswith(f"{car.make} ") for car in cars)


def test_parts_of_a_name():
    assert car_of("Ford E-Series Wagon Van 2012") == ("Ford", "Ford E-Series Wagon", "Van", "2012")
    assert car_of("Chevrolet Express Cargo Van 2007") == ("Chevrolet", "Chevrolet Express", "Cargo Van", "2007")
    assert car_of("Acura Integra Type R 2001") == ("Acura", "Acura Integra Type R", "", "2001")
    assert car_of("Land Rover LR2 SUV") == ("Land Rover", "Land Rover LR2", "SUV", "")
