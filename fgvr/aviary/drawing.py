"""Paints one bird of the Aviary: silhouette, plumage, feathers, the mark that makes the species, bill and eye.

A part is a polygon on the plumage layer; the silhouette is a mask of its own, so that belly, feathers and marks never
leave the bird, and shading is worked out from the blurred mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from fgvr.aviary.builds import Build, wing_shapes
from fgvr.aviary.names import Colour, Plumage
from fgvr.aviary.pen import Frame, Layer, Points, fixed, mix, ribbon, sides, smooth

WHITE: Colour = (255, 255, 255)
DARK: Colour = (18, 15, 18)


@dataclass(frozen=True)
class Pose:
    """Angles in radians: the whole bird's tilt, the head's nod, the tail's swing. `frame` places the bird."""

    frame: Frame
    tilt: float = 0.0
    nod: float = 0.0
    swing: float = 0.0


@dataclass(frozen=True)
class Mark:
    """What makes the species. `size` 1 is the plain size; `place` is a key of MARK_PLACES."""

    colour: Colour
    place: str
    size: float = 1.0


class BirdPainter:
    """Paints one bird onto a canvas (RGB, square) and remembers where its mark lies."""

    def __init__(self, canvas: Image.Image, build: Build, plumage: Plumage, mark: Mark, pose: Pose) -> None:
        self.build, self.plumage, self.mark = build, plumage, mark
        self.canvas = Layer(canvas)
        self.coat = Layer(Image.new("RGB", canvas.size, plumage.back))
        self.mask = Layer(Image.new("L", canvas.size))
        self.body = pose.frame.child((0.0, 0.0), pose.tilt)
        self.upright = pose.frame
        self._bend(pose)
        self.marked: list[Points] = []  # outlines of the mark, unit coordinates

    def _bend(self, pose: Pose) -> None:
        """Turns the head about the neck and works out the spine's two edges, the head's and the tail's frame."""
        spine = np.array(self.build.spine)
        pivot = spine[-2, :2].copy()
        spine[-1, :2] = Frame(float(pivot[0]), float(pivot[1]), pose.nod)(spine[-1:, :2] - pivot)[0]
        line = smooth(spine, closed=False, steps=7)
        line[:, 2] = np.maximum(line[:, 2], 0.01)
        self.radius = line[:, 2] * self.body.scale
        self.line = self.body(line[:, :2])
        self.back_edge, self.belly_edge = sides(self.line, 2 * self.radius)
        self.head = self.body.child((spine[-1, 0], spine[-1, 1]), pose.nod * 1.4, spine[-1, 2])
        behind = spine[0, :2] - spine[1, :2]
        turn = float(np.arctan2(behind[1], behind[0])) - self.build.tail_turn - pose.swing
        self.tail = self.body.child((spine[0, 0], spine[0, 1]), turn)
        x, y, tip_x, tip_y = self.build.wing
        self.wing_length = float(np.hypot(tip_x - x, tip_y - y))
        self.wing = self.body.child((x, y), float(np.arctan2(tip_y - y, tip_x - x)))

    def paint(self) -> None:
        """The whole bird, from its legs to the glint in its eye."""
        self._legs()
        self._tail()
        self._body()
        if self.mark.place in ("breast", "throat", "collar"):
            self._lay_mark()
        self._wing()
        if self.mark.place not in ("breast", "throat", "collar"):
            self._lay_mark()
        if self.build.frontal:
            self._shade()
            self._owl_face()
        else:
            self._bill()
            self._shade()
            self._eye()

    def _add(self, points: Points, colour: Colour) -> None:
        """A part that widens the silhouette."""
        self.coat.shape(points, colour)
        self.mask.shape(points)

    def _legs(self) -> None:
        build, colour = self.build, mix(self.plumage.bill, DARK, 0.25)
        if not build.legs:
            return
        foot = build.spine[len(build.spine) // 2][2] + build.legs
        width = 0.014 if build.perch == "branch" else 0.017
        for x in build.leg_x:
            hip = (x, 0.06)
            knee = (x - 0.012, (foot + 0.06) * 0.62)
            end = (x + 0.012, foot)
            self.canvas.shape(self.upright(ribbon((hip, knee, end), width, 3)), colour)
            toes = ((x - 0.022, foot + 0.012), (x + 0.02, foot - 0.004), (x + 0.05, foot + 0.012))
            self.canvas.shape(self.upright(ribbon(toes, width, 3)), colour)

    def _tail(self) -> None:
        build, dark = self.build, mix(self.plumage.wing, DARK, 0.35)
        stations = np.array(build.tail)
        tip_from = 0.42 * stations[:, 0].max()
        outline = np.concatenate([stations, stations[::-1] * (1, -1)])
        self._add(self.tail(outline), self.plumage.wing)
        reach, width = stations[-1, 0], stations[-2, 1]
        for share in (-0.5, 0.0, 0.5):
            self.coat.shape(self.tail(ribbon(((0, share * 0.03), (reach * 0.93, share * width)), 0.006)), dark, 130)
        plumes = self._streamers()
        if self.mark.place != "tail":
            return
        # a heron's or a duck's short tail is dipped to the root: its tip alone would be lost
        tip_from = min(tip_from, reach - 0.1 * self.mark.size)
        width_there = float(np.interp(tip_from, stations[:, 0], stations[:, 1]))
        tip = np.concatenate([[(tip_from, width_there)], stations[stations[:, 0] > tip_from]])
        self._mark(self.tail(np.concatenate([tip, tip[::-1] * (1, -1)])))
        for plume in plumes:
            self._mark(plume)

    def _streamers(self) -> list[Points]:
        """Two long plumes that end in rackets; returns the rackets."""
        length, rackets = self.build.streamers, []
        if not length:
            return rackets
        for bow, colour in ((0.12, mix(self.plumage.wing, DARK, 0.3)), (-0.02, self.plumage.wing)):
            end = (length, -bow * 1.2)
            knots = ((0.02, 0.0), (length * 0.4, bow * 0.75), (length * 0.75, bow * 0.35), end)
            self._add(self.tail(ribbon(knots, (0.03, 0.022, 0.016, 0.016))), colour)
            x, y = end
            racket = smooth(((x - 0.09, y + 0.01), (x - 0.02, y + 0.042), (x + 0.055, y), (x - 0.02, y - 0.042)))
            rackets.append(self.tail(racket))
            self._add(rackets[-1], mix(colour, self.plumage.belly, 0.15))
        return rackets

    def _body(self) -> None:
        build, plumage = self.build, self.plumage
        outline = np.concatenate([self.back_edge, self.belly_edge[::-1]])
        self.mask.shape(outline)
        for at, radius in zip(self.line[::2], self.radius[::2], strict=False):
            self.mask.disc(at, radius)
        if build.crest:
            colour = plumage.head if build.frontal else mix(plumage.head, plumage.wing, 0.45)
            self._add(self.head(fixed(build.crest, 4)), colour)
        edge = self.belly_edge + (self.belly_edge - self.line) * 0.15
        last = int(len(self.line) * (0.8 if build.frontal else 0.93))
        rim = -0.45 if build.frontal else 0.12
        for depth, share in ((-0.14, 0.2), (-0.07, 0.4), (0.0, 0.6), (0.07, 0.8), (0.14, 1.0)):
            inner = self.line + (self.belly_edge - self.line) * (rim + depth)
            self.coat.shape(
                np.concatenate([edge[1:last], inner[1:last][::-1]]), mix(plumage.back, plumage.belly, share)
            )
        if plumage.head != plumage.back or build.frontal:
            hood = int(len(self.line) * build.neck)
            for at, radius in zip(self.line[hood:], self.radius[hood:], strict=True):
                self.coat.disc(at, radius * 1.12, plumage.head)
        self._pattern()
        for share in (0.3, 0.42, 0.54, 0.66):  # the lie of the feathers on back and nape
            at = self.line[int(share * len(self.line))] * 0.45 + self.back_edge[int(share * len(self.line))] * 0.55
            self.coat.disc(at, 0.028, mix(plumage.back, WHITE, 0.35), 45)

    def _pattern(self) -> None:
        kind, colour = self.plumage.pattern, mix(self.plumage.belly, mix(self.plumage.back, DARK, 0.45), 0.55)
        if kind == "plain":
            return
        out, scale = self.belly_edge - self.line, self.body.scale
        start = -0.3 if self.build.frontal else 0.32
        for row, share in enumerate(np.linspace(0.2, 0.68, 7)):
            index = int(share * len(self.line))
            if kind == "barred":
                bar = np.stack([self.line[index] + out[index] * depth for depth in (start, 0.5 * start + 0.5, 1.05)])
                self.coat.shape(ribbon(bar, 0.011 * scale, 3), colour, 170)
                continue
            for depth in np.arange(start + 0.12 * (row % 2), 1.0, 0.27):
                at = self.line[index] + out[index] * depth
                if kind == "scaled":
                    self.coat.disc(at, 0.017 * scale, colour, 150)
                    self.coat.disc(at - 0.006 * scale, 0.014 * scale, self.plumage.belly)
                else:
                    dash = np.stack([self.line[index - 1], self.line[index + 1]]) - self.line[index] + at
                    self.coat.shape(ribbon(dash, 0.011 * scale, 2), colour, 190)

    def _wing(self) -> None:
        plumage, wing, shapes = self.plumage, self.wing, wing_shapes(self.build)
        dark, light = mix(plumage.wing, DARK, 0.45), mix(plumage.wing, plumage.belly, 0.4)
        self.coat.shape(wing(shapes.outline + np.array((0.004, -0.016))), mix(plumage.belly, DARK, 0.7), 90)
        self._add(wing(shapes.outline), plumage.wing)
        for quill in shapes.quills:
            self.coat.shape(wing(quill + np.array((0.0, 0.004))), light, 170)
            self.coat.shape(wing(quill), dark, 190)
        self.coat.shape(wing(shapes.coverts), mix(plumage.wing, plumage.back, 0.5))
        radius = 0.115 * self.build.wing_width * wing.scale
        for row, places in enumerate(shapes.scales):
            tint = mix(plumage.wing, plumage.back, 0.5 + 0.05 * row)
            for x, y in wing(places):
                self.coat.disc((x, y), radius, dark, 70)
                self.coat.disc((x + 0.005, y - 0.004), radius, tint, 200)

    def _mark(self, points: Points) -> None:
        self.coat.shape(points, self.mark.colour)
        self.marked.append(points)

    def _lay_mark(self) -> None:
        place, size = self.mark.place, self.mark.size
        on_head = size * self.build.head_marks
        if place == "brow":
            self._brow(on_head)
        elif place == "cap":
            low = -0.5 + 0.18 * (on_head - 1)
            cap = (
                (0.95, low),
                (0.0, low + 0.04),
                (-0.65, low + 0.22),
                (-1.3, low + 0.3),
                (-1.2, -1.0),
                (0.0, -1.5),
                (0.9, -1.1),
            )
            if self.build.crest and not self.build.frontal:
                self._mark(self.head(fixed(self.build.crest, 4)))
            self._mark(self.head(smooth(cap)))
        elif place == "throat":
            middle = np.array((0.05, 0.95) if self.build.frontal else (0.38, 0.78))
            blob = np.array(((0.55, -0.42), (0.0, -0.4), (-0.48, -0.1), (-0.3, 0.5), (0.15, 0.55), (0.6, 0.1)))
            self._mark(self.head(smooth(middle + blob * on_head * (1.15 if self.build.frontal else 1.0))))
        elif place == "collar":
            self._collar(0.052 * size * (1.1 if self.build.head_marks > 1.5 else 1.0))
        elif place == "breast":
            index = int(self.build.breast * len(self.line))
            at = self.line[index] + (self.belly_edge[index] - self.line[index]) * (0.35 if self.build.frontal else 0.62)
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            self._mark(at + np.stack([np.cos(angles), np.sin(angles)], 1) * 0.056 * size * self.body.scale)
        elif place == "rump":
            self._rump(size)
        elif place == "bar":
            knots = np.array(((0.36, 0.46), (0.46, 0.0), (0.42, -0.68))) * (self.wing_length, self.build.wing_width)
            self._mark(self.wing(ribbon(knots, 0.054 * size)))

    def _brow(self, size: float) -> None:
        if self.build.frontal:
            for side in (-1, 1):
                knots = ((0.06 * side + 0.08, -0.12), (0.36 * side + 0.08, -0.5), (0.9 * side + 0.05, -0.72))
                self._mark(self.head(ribbon(knots, (0.16 * size, 0.3 * size, 0.2 * size))))
            return
        if self.build.brow_plume:
            knots = ((0.7, -0.42), (-0.35, -0.4), (-1.4, -0.05), (-2.6, 0.6))
            plume = self.head(ribbon(knots, (0.18 * size, 0.26 * size, 0.3 * size, 0.04)))
            self.mask.shape(plume)
            self._mark(plume)
            return
        # low and drawn out behind the eye, so that the crown keeps its own colour: a cap covers it
        knots = ((0.85, -0.36), (0.25, -0.47), (-0.4, -0.36), (-1.0, 0.16))
        self._mark(self.head(ribbon(knots, (0.18 * size, 0.32 * size, 0.34 * size, 0.26 * size))))

    def _collar(self, width: float) -> None:
        index = int(self.build.neck * len(self.line))
        along = self.line[index + 1] - self.line[index - 1]
        sag = -along / max(float(np.hypot(*along)), 1e-9) * 0.02 * self.body.scale
        across = [self.back_edge[index], self.line[index] + sag, self.belly_edge[index]]
        ends = [2 * across[0] - self.line[index], *across, 2 * across[2] - self.line[index]]
        self._mark(ribbon(np.stack(ends[0:1] + ends[2:3] + ends[4:5]), width * self.body.scale))

    def _rump(self, size: float) -> None:
        line, back, scale = self.line, self.back_edge, self.body.scale
        # a fixed way up the back: samples lie closer together on a long-necked bird's body
        place = int(np.argmax(np.hypot(*(line - line[0]).T) > 0.04 * scale))
        at = line[place] + (back[place] - line[place]) * 0.35
        along = line[3] - line[0]
        along = along / max(float(np.hypot(*along)), 1e-9)
        across = np.array([-along[1], along[0]])
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        blob = np.cos(angles)[:, None] * along * 0.062 + np.sin(angles)[:, None] * across * 0.06
        self._mark(at + blob * size * scale)

    def _shade(self) -> None:
        """Light from above: the blurred silhouette, moved towards it, is bright inside, dark at the lower rim."""
        side, mask = self.coat.side, self.mask.image
        small = mask.resize((64, 64), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(3.2))
        lit = np.asarray(ImageChops.offset(small, 1, -3), dtype=np.float32) / 255
        core = np.asarray(ImageChops.offset(small, -1, 3), dtype=np.float32) / 255
        light = np.clip(88 + 62 * lit + 44 * (lit - core), 0, 255).astype(np.uint8)
        box = mask.getbbox() or (0, 0, side, side)
        inner = tuple(64 * value / side for value in box)
        extent = (box[2] - box[0], box[3] - box[1])
        shade = Image.fromarray(light).resize(
            extent, Image.Resampling.BILINEAR, (inner[0], inner[1], inner[2], inner[3])
        )
        shaded = ImageChops.hard_light(self.coat.image.crop(box), Image.merge("RGB", (shade, shade, shade)))
        self.canvas.image.paste(shaded, box[:2], mask.crop(box))

    def _bill(self) -> None:
        colour, bill, tip = self.plumage.bill, np.array(self.build.bill), self.build.bill_tip
        self.canvas.shape(self.head(fixed(self.build.bill, 5)), colour)
        if tip is None:
            return
        middle = bill.mean(axis=0)
        upper = bill * (0.94, 0.55) + np.array((0.0, 0.45 * middle[1] - 0.12))
        self.canvas.shape(self.head(smooth(upper, steps=5)), mix(colour, WHITE, 0.3), 70)
        gape = ((bill[0, 0], (bill[0, 1] + bill[-1, 1]) / 2 + 0.1), ((bill[0, 0] + tip[0]) / 2, middle[1] + 0.08), tip)
        self.canvas.shape(self.head(ribbon(gape, 0.07)), mix(colour, DARK, 0.7), 200)

    def _eye(self) -> None:
        x, y, r = self.build.eye
        at, radius = self.head([(x, y)])[0], r * self.head.scale
        self.canvas.disc(at, radius * 1.3, mix(self.plumage.head, WHITE if sum(self.plumage.head) < 420 else DARK, 0.4))
        self.canvas.disc(at, radius, (42, 24, 16))
        self.canvas.disc(at, radius * 0.72, (8, 6, 8))
        self.canvas.disc(at + np.array((0.32, -0.36)) * radius, radius * 0.36, WHITE)

    def _owl_face(self) -> None:
        plumage, head, canvas = self.plumage, self.head, self.canvas
        disc, rim = mix(plumage.belly, WHITE, 0.25), mix(plumage.head, DARK, 0.45)
        for side in (-1, 1):
            at = head([(0.08 + 0.4 * side, 0.02)])[0]
            canvas.disc(at, 0.46 * head.scale, rim, 200)
            canvas.disc(at, 0.41 * head.scale, disc)
            canvas.disc(at, 0.3 * head.scale, mix(disc, plumage.head, 0.35), 150)
        for side in (-1, 1):
            at = head([(0.08 + 0.36 * side, 0.0)])[0]
            canvas.disc(at, 0.235 * head.scale, DARK)
            canvas.disc(at, 0.205 * head.scale, (250, 176, 28))
            canvas.disc(at, 0.125 * head.scale, (8, 6, 8))
            canvas.disc(at + np.array((0.07, -0.08)) * head.scale, 0.055 * head.scale, WHITE)
        canvas.shape(head(smooth(np.array(self.build.bill) + np.array((0.08, 0.02)), steps=4)), plumage.bill)
        if self.mark.place == "brow":  # the discs lie over the brows
            for points in self.marked:
                canvas.shape(points, self.mark.colour)
