"""The eight builds of the Aviary, one to a family: bodies as spines with a girth, heads, bills, tails, wings and legs.

Lengths are shares of the picture's width unless a field says otherwise; birds face right, y runs down, and the body's
middle is the origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fgvr.aviary.pen import Points, ribbon, smooth


@dataclass(frozen=True)
class Build:
    """A family's silhouette. Spine points are (x, y, radius) from rump to head; head parts are in head radii."""

    spine: tuple[tuple[float, float, float], ...]
    bill: tuple[tuple[float, float], ...]  # outline; the gape runs from its first point to `bill_tip`
    bill_tip: tuple[float, float] | None  # None for a bill too thin to show its gape
    tail: tuple[tuple[float, float], ...]  # (distance from the base, half width)
    tail_turn: float  # radians from straight behind; positive hangs down
    wing: tuple[float, float, float, float]  # shoulder x, y and tip x, y
    wing_width: float
    legs: float  # length; 0 for a swimmer
    perch: str  # branch | shallows | water
    neck: float  # spine share at which the collar sits
    breast: float = 0.62
    offset: tuple[float, float] = (0.0, 0.0)
    size: float = 1.0
    crest: tuple[tuple[float, float], ...] = ()
    streamers: float = 0.0  # length of two long tail plumes
    frontal: bool = False  # an owl's face
    head_marks: float = 1.0  # small heads carry larger marks
    brow_plume: bool = False  # the brow runs on behind a head too small to show it
    eye: tuple[float, float, float] = (0.3, -0.1, 0.2)
    leg_x: tuple[float, float] = (-0.02, 0.05)


BUILDS: dict[str, Build] = {
    "Finches": Build(
        spine=(
            (-0.21, 0.075, 0.05),
            (-0.10, 0.035, 0.12),
            (0.03, 0.01, 0.158),
            (0.125, -0.075, 0.13),
            (0.165, -0.165, 0.108),
        ),
        bill=((0.72, -0.42), (1.2, -0.32), (1.82, 0.14), (1.25, 0.42), (0.72, 0.46)),
        bill_tip=(1.8, 0.12),
        tail=((-0.02, 0.05), (0.12, 0.042), (0.23, 0.066), (0.19, 0.0)),
        tail_turn=0.28,
        wing=(0.075, -0.03, -0.27, 0.09),
        wing_width=0.155,
        legs=0.09,
        perch="branch",
        neck=0.80,
        offset=(-0.005, 0.0),
        size=1.06,
    ),
    "Sippers": Build(
        spine=(
            (-0.17, 0.11, 0.03),
            (-0.09, 0.065, 0.085),
            (0.0, 0.0, 0.112),
            (0.055, -0.085, 0.09),
            (0.085, -0.16, 0.084),
        ),
        bill=((0.7, -0.3), (1.9, -0.42), (3.1, 0.05), (3.85, 0.95), (3.0, 0.3), (1.9, -0.1), (0.75, 0.22)),
        bill_tip=None,
        tail=((-0.02, 0.03), (0.08, 0.036), (0.16, 0.05), (0.18, 0.0)),
        tail_turn=0.45,
        wing=(0.04, -0.05, -0.24, 0.15),
        wing_width=0.115,
        legs=0.06,
        perch="branch",
        neck=0.79,
        offset=(-0.085, 0.02),
        size=1.2,
        head_marks=1.15,
    ),
    "Crestjays": Build(
        spine=(
            (-0.15, 0.11, 0.05),
            (-0.075, 0.065, 0.10),
            (0.02, 0.0, 0.128),
            (0.09, -0.085, 0.108),
            (0.125, -0.17, 0.092),
        ),
        bill=((0.72, -0.34), (1.5, -0.22), (2.25, 0.16), (1.5, 0.34), (0.72, 0.34)),
        bill_tip=(2.2, 0.12),
        tail=((-0.03, 0.045), (0.15, 0.045), (0.3, 0.06), (0.345, 0.025), (0.35, 0.0)),
        tail_turn=0.22,
        wing=(0.06, -0.04, -0.24, 0.15),
        wing_width=0.14,
        legs=0.09,
        perch="branch",
        neck=0.78,
        offset=(0.1, 0.0),
        size=1.0,
        crest=((0.75, -0.55), (0.1, -1.15), (-0.75, -1.75), (-1.75, -2.2), (-1.15, -1.2), (-0.75, -0.3)),
        head_marks=1.1,
    ),
    "Plumetails": Build(
        spine=(
            (-0.11, 0.13, 0.045),
            (-0.06, 0.075, 0.09),
            (0.0, 0.0, 0.112),
            (0.05, -0.085, 0.092),
            (0.075, -0.165, 0.08),
        ),
        bill=((0.75, -0.26), (1.3, -0.12), (1.8, 0.16), (1.3, 0.3), (0.75, 0.3)),
        bill_tip=(1.75, 0.12),
        tail=((-0.03, 0.035), (0.08, 0.03), (0.14, 0.02), (0.16, 0.0)),
        tail_turn=0.5,
        wing=(0.035, -0.05, -0.19, 0.16),
        wing_width=0.125,
        legs=0.05,
        perch="branch",
        neck=0.78,
        offset=(0.12, -0.17),
        size=1.06,
        streamers=0.4,
        head_marks=1.15,
    ),
    "Herons": Build(
        spine=(
            (-0.21, 0.075, 0.03),
            (-0.12, 0.035, 0.08),
            (-0.01, 0.0, 0.098),
            (0.085, -0.055, 0.068),
            (0.125, -0.145, 0.042),
            (0.085, -0.235, 0.037),
            (0.10, -0.32, 0.064),
        ),
        bill=((0.6, -0.4), (2.0, -0.22), (4.0, 0.3), (2.0, 0.4), (0.6, 0.44)),
        bill_tip=(3.9, 0.28),
        tail=((-0.02, 0.035), (0.08, 0.042), (0.15, 0.034), (0.165, 0.0)),
        tail_turn=0.3,
        wing=(0.06, -0.035, -0.26, 0.09),
        wing_width=0.15,
        legs=0.3,
        perch="shallows",
        neck=0.69,
        breast=0.45,
        offset=(-0.03, -0.02),
        size=1.0,
        head_marks=1.7,
        leg_x=(-0.06, 0.03),
        brow_plume=True,
        eye=(0.35, -0.1, 0.22),
    ),
    "Ducks": Build(
        spine=(
            (-0.27, 0.0, 0.04),
            (-0.17, 0.035, 0.10),
            (-0.03, 0.05, 0.135),
            (0.11, 0.02, 0.11),
            (0.165, -0.085, 0.07),
            (0.185, -0.175, 0.098),
        ),
        bill=((0.7, -0.34), (1.15, -0.02), (1.75, 0.1), (2.1, 0.2), (2.05, 0.46), (1.5, 0.52), (0.7, 0.5)),
        bill_tip=(2.0, 0.33),
        tail=((-0.03, 0.05), (0.06, 0.05), (0.14, 0.025), (0.17, 0.0)),
        tail_turn=-0.35,
        wing=(0.06, -0.02, -0.27, 0.0),
        wing_width=0.15,
        legs=0.0,
        perch="water",
        neck=0.74,
        breast=0.66,
        offset=(0.02, 0.06),
        size=1.06,
        head_marks=1.1,
    ),
    "Owls": Build(
        spine=(
            (-0.07, 0.215, 0.06),
            (-0.035, 0.125, 0.148),
            (0.0, 0.02, 0.186),
            (0.012, -0.08, 0.172),
            (0.015, -0.17, 0.166),
        ),
        bill=((-0.1, 0.0), (0.12, 0.0), (0.07, 0.26), (0.0, 0.34), (-0.07, 0.2)),
        bill_tip=(0.0, 0.3),
        tail=((-0.03, 0.06), (0.1, 0.075), (0.17, 0.07), (0.18, 0.0)),
        tail_turn=0.05,
        wing=(-0.085, -0.06, -0.13, 0.25),
        wing_width=0.15,
        legs=0.03,
        perch="branch",
        neck=0.71,
        breast=0.45,
        offset=(0.0, -0.035),
        size=1.06,
        crest=(
            (-1.0, 0.0),
            (-0.98, -0.6),
            (-0.92, -1.32),
            (-0.5, -0.98),
            (0.0, -0.95),
            (0.5, -0.98),
            (0.92, -1.32),
            (0.98, -0.6),
            (1.0, 0.0),
        ),
        frontal=True,
        head_marks=0.82,
        leg_x=(0.0, 0.08),
    ),
    "Toucans": Build(
        spine=(
            (-0.15, 0.17, 0.05),
            (-0.095, 0.10, 0.105),
            (-0.02, 0.0, 0.135),
            (0.03, -0.10, 0.112),
            (0.055, -0.19, 0.1),
        ),
        bill=(
            (0.55, -0.78),
            (1.5, -1.0),
            (2.7, -0.66),
            (3.35, 0.12),
            (3.3, 0.55),
            (2.7, 0.35),
            (1.6, 0.42),
            (0.6, 0.52),
        ),
        bill_tip=(3.25, 0.3),
        tail=((-0.03, 0.05), (0.1, 0.045), (0.24, 0.06), (0.25, 0.0)),
        tail_turn=0.18,
        wing=(0.01, -0.05, -0.22, 0.2),
        wing_width=0.135,
        legs=0.05,
        perch="branch",
        neck=0.77,
        offset=(-0.06, 0.01),
        size=1.02,
        head_marks=1.0,
        eye=(0.2, -0.25, 0.19),
    ),
}


@dataclass(frozen=True)
class WingShapes:
    """A folded wing in the wing's frame: x from shoulder to tip, y towards the back."""

    outline: Points
    coverts: Points
    quills: tuple[Points, ...]
    scales: tuple[Points, ...]  # rows of middles, from the edge of the coverts to the shoulder


@cache
def wing_shapes(build: Build) -> WingShapes:
    """A family's wing, worked out once."""
    x, y, tip_x, tip_y = build.wing
    size = np.array((np.hypot(tip_x - x, tip_y - y), build.wing_width))
    outline = ((-0.06, 0.0), (0.06, 0.3), (0.36, 0.38), (0.76, 0.2), (1.02, 0.0), (0.84, -0.24), (0.55, -0.52))
    coverts = ((-0.05, 0.0), (0.06, 0.28), (0.33, 0.34), (0.43, 0.08), (0.38, -0.25), (0.2, -0.54), (0.02, -0.33))
    quills: list[Points] = []
    for k in range(5):
        start, middle = (0.34 - 0.02 * k, 0.16 - 0.12 * k), (0.66 - 0.05 * k, 0.06 - 0.12 * k)
        end = (0.99 - 0.1 * k, -0.02 - 0.13 * k)
        quills.append(ribbon(np.array((start, middle, end)) * size, 0.007, 4))
    scales: list[Points] = []
    for row, edge in enumerate((0.36, 0.22, 0.1)):
        across = np.linspace(0.24 - 0.06 * row, -0.42 + 0.05 * row, 4)
        scales.append(np.stack([edge - 0.25 * across**2, across], axis=1) * size)
    lower = ((0.2, -0.6), (0.0, -0.34))
    return WingShapes(
        smooth(np.array(outline + lower) * size), smooth(np.array(coverts) * size), tuple(quills), tuple(scales)
    )
