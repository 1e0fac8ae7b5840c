"""Puts a bird into a scene: a far, blurred background, a perch, the bird, a leaf in front, light and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fgvr.aviary.builds import BUILDS, Build
from fgvr.aviary.drawing import DARK, WHITE, BirdPainter, Mark, Pose
from fgvr.aviary.names import MARK_COLOURS, Colour, Plumage, Species, ground
from fgvr.aviary.pen import Frame, Layer, Points, fixed, mix, ribbon

_FAR = 64  # side of the canvas for far things: enlarging it is their blur, the same at every picture size
_PERCHED = ("sky", "foliage", "rock", "dusk", "blossom", "meadow")
_WADING = ("reeds", "lake", "dusk")
_BLADE = ((0.0, 0.0), (0.3, -0.2), (0.7, -0.17), (1.0, 0.0), (0.7, 0.19), (0.3, 0.2))
_LEAVES: tuple[Colour, ...] = ((74, 122, 52), (98, 146, 60), (52, 98, 58), (132, 150, 62), (150, 112, 50))


@dataclass(frozen=True)
class Backdrop:
    """Colours at the top, at the horizon and at the foot, the blobs that float before them, and where they may be."""

    top: Colour
    middle: Colour
    foot: Colour
    blobs: tuple[Colour, ...]
    count: int
    radius: tuple[float, float]  # in far pixels
    between: tuple[float, float] = (0.0, 1.0)
    alpha: int = 110


BACKDROPS: dict[str, Backdrop] = {
    "sky": Backdrop(
        (118, 170, 216),
        (176, 208, 230),
        (214, 226, 226),
        ((250, 252, 254), (236, 242, 248)),
        12,
        (5, 12),
        (0.1, 0.8),
        70,
    ),
    "foliage": Backdrop(
        (58, 92, 54),
        (88, 124, 66),
        (46, 76, 48),
        ((126, 162, 84), (60, 100, 56), (176, 190, 110), (38, 70, 46)),
        26,
        (3, 10),
    ),
    "rock": Backdrop(
        (186, 184, 178),
        (150, 146, 140),
        (112, 110, 108),
        ((128, 124, 118), (172, 168, 160), (136, 142, 116)),
        22,
        (4, 12),
    ),
    "dusk": Backdrop(
        (104, 110, 158),
        (232, 178, 150),
        (158, 118, 122),
        ((250, 206, 160), (214, 156, 150)),
        9,
        (6, 14),
        (0.2, 0.7),
        80,
    ),
    "blossom": Backdrop(
        (186, 206, 216),
        (208, 212, 200),
        (150, 176, 140),
        ((238, 200, 212), (246, 222, 226), (140, 172, 120)),
        24,
        (3, 8),
    ),
    "meadow": Backdrop(
        (196, 214, 206),
        (190, 196, 132),
        (128, 146, 72),
        ((216, 204, 110), (150, 168, 84), (232, 222, 160)),
        24,
        (3, 9),
        (0.35, 1.0),
    ),
    "reeds": Backdrop(
        (196, 204, 184), (170, 172, 122), (110, 128, 92), ((150, 150, 96), (206, 200, 150)), 10, (4, 10), (0.1, 0.6)
    ),
    "lake": Backdrop(
        (164, 192, 206), (120, 150, 138), (92, 128, 146), ((84, 118, 92), (104, 136, 104)), 14, (4, 8), (0.36, 0.5), 150
    ),
}


def backdrop(kind: str, rng: np.random.Generator) -> Image.Image:
    """A far background, _FAR pixels square, out of focus."""
    scene = BACKDROPS[kind]
    horizon = rng.uniform(0.42, 0.6)
    rows = np.linspace(0, 1, _FAR)[:, None]
    stops = (
        np.array([scene.top, scene.middle, scene.foot], dtype=np.float64)
        + rng.normal(0, 7, (3, 1))
        + rng.normal(0, 4, (3, 3))
    )
    columns = [np.interp(rows[:, 0], (0, horizon, 1), stops[:, channel]) for channel in range(3)]
    sky = np.clip(np.stack(columns, axis=-1), 0, 255).astype(np.uint8)
    far = Image.fromarray(np.ascontiguousarray(np.broadcast_to(sky[:, None], (_FAR, _FAR, 3))))
    draw = ImageDraw.Draw(far, "RGBA")
    if kind == "dusk":  # far hills
        xs = np.linspace(-4, _FAR + 4, 9)
        for depth in range(2):
            ridge = horizon * _FAR + 4 + 6 * depth + rng.normal(0, 2.5, 9)
            outline = [*zip(xs, ridge, strict=True), (_FAR + 4, _FAR + 4), (-4, _FAR + 4)]
            draw.polygon(
                [value for point in outline for value in point],
                fill=(98 - 20 * depth, 84 - 12 * depth, 112 - 14 * depth, 190),
            )
    places = rng.uniform(0, 1, (scene.count, 3))
    tints = rng.integers(len(scene.blobs), size=scene.count)
    for (x, y, share), tint in zip(places, tints, strict=True):
        radius = scene.radius[0] + share * (scene.radius[1] - scene.radius[0])
        y = (scene.between[0] + y * (scene.between[1] - scene.between[0])) * _FAR
        flat = 0.55 if kind in ("sky", "lake", "dusk") else 1.0
        box = (x * _FAR - radius, y - radius * flat, x * _FAR + radius, y + radius * flat)
        draw.ellipse(box, fill=(*scene.blobs[tint], scene.alpha))
    if kind == "reeds":
        for x, lean, tall, tint in zip(*rng.uniform(0, 1, (4, 16)), strict=True):
            colour = mix((92, 108, 62), (196, 184, 120), tint)
            line = (x * _FAR, _FAR, x * _FAR + (lean - 0.5) * 18, _FAR * (0.1 + 0.4 * tall))
            draw.line(line, fill=(*colour, 170), width=2)
    return far.filter(ImageFilter.GaussianBlur(1.3))


class Scene:
    """One picture of one species by one generator; `difficulty`, 0 to 1, sets how far everything varies."""

    def __init__(self, species: Species, size: int, difficulty: float, rng: np.random.Generator) -> None:
        self.species, self.size, self.difficulty, self.rng = species, size, difficulty, rng
        self.build: Build = BUILDS[species.genus.family]
        # three samples a pixel where pixels are scarce, two where the edges are fine anyway
        self.side = size * 3 if size < 200 else size * 2
        self._enlarge = Image.Resampling.BILINEAR if size < 200 else Image.Resampling.BICUBIC
        self.canvas: Layer

    def draw(self) -> Image.Image:
        rng, build = self.rng, self.build
        kind = str(rng.choice(_PERCHED if build.perch == "branch" else _WADING))
        far = backdrop(kind, rng).resize((self.side, self.side), self._enlarge)
        self.canvas = Layer(far)
        pose = self._pose()
        foot = self._foot(pose)
        if build.perch == "branch":
            self._branch(foot)
        painter = BirdPainter(far, build, self._plumage(), self._mark(), pose)
        painter.paint()
        if build.perch != "branch":
            self._water(pose, foot)
        self._in_front(painter)
        picture = far.resize((self.size, self.size), Image.Resampling.LANCZOS, reducing_gap=None)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self._light(picture)

    def _pose(self) -> Pose:
        rng, build, reach = self.rng, self.build, 0.35 + 1.3 * self.difficulty
        scale = build.size * (1.0 + rng.uniform(-0.09, 0.05) * reach)
        dx, dy = rng.uniform(-0.028, 0.028, 2) * reach
        tilt, nod, swing = rng.uniform(-1, 1, 3) * np.array((0.1, 0.17, 0.12)) * reach
        if build.perch == "water":
            tilt *= 0.3
        if build.frontal:
            nod *= 0.45
        frame = Frame(0.5 + build.offset[0] + float(dx), 0.5 + build.offset[1] + float(dy), 0.0, scale)
        return Pose(frame, float(tilt), float(nod), float(swing))

    def _foot(self, pose: Pose) -> float:
        """Where the bird stands, or the water line of one that floats or wades."""
        build = self.build
        girth = build.spine[len(build.spine) // 2][2]
        below = {"branch": girth + build.legs + 0.02, "shallows": girth + build.legs - 0.06, "water": 0.118}[
            build.perch
        ]
        return pose.frame.y + below * pose.frame.scale

    def _plumage(self) -> Plumage:
        return self.species.genus.plumage

    def _mark(self) -> Mark:
        species, hard = self.species, self.difficulty
        colour = MARK_COLOURS[species.mark_colour]
        dull = mix(colour, ground(species.genus.plumage, species.mark_place), max(0.0, hard - 0.25) * 0.4)
        return Mark(dull, species.mark_place, 1.3 - 0.5 * hard + float(self.rng.uniform(-0.05, 0.05)))

    def _branch(self, foot: float) -> None:
        rng, canvas = self.rng, self.canvas
        bark = mix((104, 78, 56), (138, 126, 110), float(rng.random()))
        slope = float(rng.uniform(-0.09, 0.09))
        middle = 0.5 + self.build.offset[0]
        xs = np.array((-0.1, 0.2, middle, 0.8, 1.1))
        line = np.stack([xs, foot + 0.022 + slope * (xs - middle) + rng.normal(0, 0.008, 5) * (1, 1, 0, 1, 1)], axis=1)
        width = 0.05 * float(rng.uniform(0.8, 1.25))
        twig_x, twig_up = float(rng.choice((0.12, 0.88))), float(rng.uniform(-0.22, -0.08))
        start = (twig_x, float(np.interp(twig_x, line[:, 0], line[:, 1])))
        end = (twig_x + float(rng.uniform(-0.1, 0.1)), start[1] + twig_up)
        canvas.shape(ribbon((start, end), width * 0.4), mix(bark, DARK, 0.25))
        for share in (0.55, 1.0):
            at = np.array(start) + (np.array(end) - start) * share
            self._blade(
                at, float(rng.uniform(0, 2 * np.pi)), 0.1, mix(_LEAVES[int(rng.integers(len(_LEAVES)))], DARK, 0.1)
            )
        canvas.shape(ribbon(line, width), mix(bark, DARK, 0.3))
        canvas.shape(ribbon(line - (0, width * 0.14), width * 0.66), bark)
        canvas.shape(ribbon(line - (0, width * 0.3), width * 0.2), mix(bark, WHITE, 0.3), 150)
        for x, y in zip(rng.uniform(0, 1, 6), rng.uniform(-0.3, 0.35, 6), strict=True):
            at = (x, float(np.interp(x, line[:, 0], line[:, 1])) + y * width)
            canvas.shape(ribbon((at, (at[0] + 0.07, at[1] + 0.004)), 0.006, 2), mix(bark, DARK, 0.5), 150)

    def _blade(self, at: Sequence[float] | Points, turn: float, length: float, colour: Colour) -> None:
        """One leaf with a rib, its stalk at `at`."""
        frame = Frame(float(at[0]), float(at[1]), turn, length)
        outline = fixed(_BLADE)
        self.canvas.shape(frame(outline), colour)
        self.canvas.shape(frame(outline * (1, 0.5) + (0.0, -0.05)), mix(colour, WHITE, 0.22), 110)
        self.canvas.shape(frame(ribbon(((0.0, 0.0), (0.95, 0.0)), 0.035, 2)), mix(colour, DARK, 0.35))

    def _water(self, pose: Pose, line: float) -> None:
        """Water up to `line`, with the mirrored bird in it and ripples around."""
        rng, image, side = self.rng, self.canvas.image, self.side
        shore = round(line * side)
        deep: Colour = mix((70, 110, 134), (128, 142, 120), float(rng.random()))
        depth = side - shore
        mirrored = image.crop((0, max(0, shore - depth), side, shore)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        mirrored = mirrored.resize((24, 16), Image.Resampling.BOX).resize(
            (side, mirrored.height), Image.Resampling.BICUBIC
        )
        water = Image.blend(mirrored, Image.new("RGB", mirrored.size, deep), 0.55)
        image.paste(water, (0, shore))
        for x, y, wide, bright in zip(*rng.uniform(0, 1, (4, 14)), strict=True):
            at = (x * 1.2 - 0.2, line + 0.015 + y * y * (1 - line))
            knots = (at, (at[0] + 0.05 + wide * 0.1, at[1] + 0.004), (at[0] + 0.1 + wide * 0.2, at[1]))
            self.canvas.shape(
                ribbon(knots, (0.0, 0.004 + 0.008 * y, 0.0), 3), mix(deep, WHITE, 0.35 + 0.4 * bright), 110
            )
        middle, reach = pose.frame.x, (0.3 if self.build.perch == "water" else 0.12)
        for k in range(3):
            wide = reach * (0.85 + 0.22 * k)
            y = line + 0.004 + 0.022 * k
            knots = ((middle - wide, y), (middle, y + 0.012 + 0.008 * k), (middle + wide, y))
            self.canvas.shape(ribbon(knots, (0.0, 0.011 - 0.002 * k, 0.0)), mix(deep, WHITE, 0.7), 150 - 35 * k)

    def _in_front(self, painter: BirdPainter) -> None:
        """A sprig, or a reed by the water, that reaches into the picture wherever it leaves the whole mark in sight."""
        rng = self.rng
        wanted = rng.random() < 0.2 + 0.5 * self.difficulty
        colour = mix(_LEAVES[int(rng.integers(len(_LEAVES)))], WHITE, 0.1)
        tries = rng.uniform(0, 1, (8, 4))
        if not wanted:
            return
        kept = np.concatenate([*painter.marked, painter.head(np.array(((0.0, 0.0), (0.8, 0.0))))])
        for side, at, lean, reach in tries:
            line = self._stalk(float(side), float(at), float(lean) - 0.5, float(reach))
            gap = float(np.sqrt(((kept[:, None] - line) ** 2).sum(-1)).min())
            if gap > (0.04 if self.build.perch != "branch" else 0.085):
                self._sprig(line, colour)
                return

    def _stalk(self, side: float, at: float, lean: float, reach: float) -> Points:
        """Eight points from outside the picture to where the sprig ends; reeds always come from below."""
        length = (0.2 + 0.14 * reach) * (0.6 + 0.8 * self.difficulty)
        if self.build.perch != "branch":
            length *= 2.2
            start, turn = (at, 1.03), -np.pi / 2 + 0.5 * lean
        elif side < 0.6:
            start, turn = ((-0.03 if side < 0.3 else 1.03), at), (0.0 if side < 0.3 else np.pi) + 1.4 * lean
        else:
            start, turn = (at, -0.03 if side < 0.8 else 1.03), (np.pi / 2 if side < 0.8 else -np.pi / 2) + 1.4 * lean
        along = np.linspace(0, length, 8)
        bend = turn + 0.5 * lean * np.linspace(0, 1, 8) ** 2
        return np.stack([start[0] + along * np.cos(bend), start[1] + along * np.sin(bend)], axis=1)

    def _sprig(self, line: Points, colour: Colour) -> None:
        canvas = self.canvas
        if self.build.perch != "branch":
            canvas.shape(ribbon(line, (0.03, 0.0), 2), colour)
            canvas.shape(ribbon(line + np.array((0.004, 0.0)), (0.008, 0.0), 2), mix(colour, WHITE, 0.3), 150)
            return
        canvas.shape(ribbon(line[:-1], 0.011, 2), mix(colour, DARK, 0.4))
        turns = np.arctan2(*(line[-1] - line[0])[::-1])
        for index, swing, tone in ((2, -0.8, 0.2), (3, 0.8, 0.1), (4, -0.7, 0.05), (5, 0.6, 0.12), (6, 0.0, 0.0)):
            self._blade(line[index], float(turns) + swing, 0.085, mix(colour, DARK, tone))

    def _light(self, picture: Image.Image) -> Image.Image:
        """Exposure, a warm or cool cast, light falling off across the picture, and sensor noise."""
        rng, hard = self.rng, 0.3 + 1.4 * self.difficulty
        warm, green, gain = rng.uniform(-1, 1, 3) * np.array((0.045, 0.015, 0.11)) * hard
        angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.1) * hard
        cast = (1 + gain) * np.array((1 + warm, 1 + green, 1 - warm), dtype=np.float32)
        axis = np.linspace(-1, 1, self.size, dtype=np.float32)
        plane = 1 + np.float32(fall) * (
            np.float32(np.cos(angle)) * axis[None] + np.float32(np.sin(angle)) * axis[:, None]
        )
        pixels = np.asarray(picture, dtype=np.float32) * (plane[:, :, None] * cast)
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(1.0 + 5.0 * self.difficulty)
        np.clip(pixels, 0, 255, out=pixels)
        return Image.fromarray((pixels + np.float32(0.5)).astype(np.uint8))
