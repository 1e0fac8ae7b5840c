"""The pen that the Aviary is drawn with: smooth curves, frames within frames, and layers that take unit coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fgvr.aviary.names import Colour

Points = NDArray[np.float64]
Pairs = Sequence[tuple[float, float]]

_CATMULL_ROM = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=np.float64)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour, 0 to 1, the rest of the one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


@cache
def _spline(knots: int, closed: bool, steps: int) -> Points:
    """The matrix that turns knots into points of a Catmull-Rom curve, [points, knots]."""
    segments = knots if closed else knots - 1
    basis = (np.arange(steps)[:, None] / steps) ** np.arange(4) @ _CATMULL_ROM  # [steps, 4 neighbouring knots]
    matrix = np.zeros((segments * steps + (not closed), knots))
    for segment in range(segments):
        for neighbour in range(4):
            place = segment + neighbour - 1
            place = place % knots if closed else min(max(place, 0), knots - 1)
            matrix[segment * steps : (segment + 1) * steps, place] += basis[:, neighbour]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


def smooth(points: Pairs | Points, closed: bool = True, steps: int = 6) -> Points:
    """A Catmull-Rom curve through the points, `steps` samples to a segment; columns beyond x, y are carried along."""
    return _spline(len(points), closed, steps) @ np.asarray(points, dtype=np.float64)


def sides(line: Points, width: float | Points) -> tuple[Points, Points]:
    """The two edges of a line `width` thick; the second is on the belly's side of a line from tail to head."""
    slope = np.empty_like(line)
    slope[1:-1] = line[2:] - line[:-2]
    slope[0], slope[-1] = line[1] - line[0], line[-1] - line[-2]
    half = 0.5 * width / np.maximum(np.hypot(slope[:, 0], slope[:, 1]), 1e-9)
    normal = np.stack((-slope[:, 1] * half, slope[:, 0] * half), axis=1)
    return line - normal, line + normal


def ribbon(points: Pairs | Points, width: float | Sequence[float], steps: int = 5) -> Points:
    """A smooth band through the points, of one width or of one width at each point."""
    line = smooth(points, closed=False, steps=steps)
    if isinstance(width, Sequence):
        across = np.interp(np.arange(len(line)) / steps, np.arange(len(width)), width)
        near, far = sides(line, across)
    else:
        near, far = sides(line, width)
    return np.concatenate([near, far[::-1]])


@cache
def fixed(points: tuple[tuple[float, float], ...], steps: int = 6) -> Points:
    """`smooth` of an outline that no pose changes, worked out once and read-only."""
    outline = smooth(points, steps=steps)
    outline.setflags(write=False)
    return outline


@dataclass(frozen=True)
class Frame:
    """A part's own coordinates: where its origin lies on the parent, how far it is turned (radians) and its scale."""

    x: float = 0.0
    y: float = 0.0
    turn: float = 0.0
    scale: float = 1.0

    def __call__(self, points: Pairs | Points) -> Points:
        cos, sin = math.cos(self.turn) * self.scale, math.sin(self.turn) * self.scale
        placed = np.asarray(points, dtype=np.float64) @ np.array(((cos, sin), (-sin, cos)))
        placed += (self.x, self.y)
        return placed

    def child(self, at: tuple[float, float], turn: float = 0.0, scale: float = 1.0) -> Frame:
        x, y = self([at])[0]
        return Frame(float(x), float(y), self.turn + turn, self.scale * scale)


class Layer:
    """A square image that takes shapes in unit coordinates; on a mask (mode L) every colour is white."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.side = image, image.width
        self._draw = ImageDraw.Draw(image, "RGBA") if image.mode == "RGB" else ImageDraw.Draw(image)

    def shape(self, points: Points, colour: Colour = (0, 0, 0), alpha: int = 255) -> None:
        fill = (*colour, alpha) if self.image.mode == "RGB" else 255
        self._draw.polygon((points * self.side).ravel().tolist(), fill=fill)

    def disc(
        self, at: Points | tuple[float, float], radius: float, colour: Colour = (0, 0, 0), alpha: int = 255
    ) -> None:
        fill = (*colour, alpha) if self.image.mode == "RGB" else 255
        x, y, r = float(at[0]) * self.side, float(at[1]) * self.side, radius * self.side
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
