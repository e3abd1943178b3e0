"""Rendered pictures in families: members of a family are related in kind and differ in structure and colour."""

import math
from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from jobs.demo import patterns
from jobs.demo.drawing import (
    Pixels,
    Rng,
    backdrop,
    box,
    canvas,
    colour,
    disc,
    finish,
    letters,
    line,
    noise,
    palette,
    polygon,
    ramp,
    ring_points,
    size,
)
from jobs.demo.scenery import WORDS, chart_of_lands, city, landscape, spheres


def chart(rng: Rng) -> Pixels:
    """A statistical chart: bars, lines, areas, a pie, points, a heat map, a radar or boxes, with title and axes."""
    h, w = size(rng)
    colours = palette(rng, 7)
    hue = rng.random()
    dark = rng.random() < 0.5
    paper, ink = (
        (colour(hue, 0.6, 0.22), colour(hue, 0.1, 0.95)) if dark else (colour(hue, 0.3, 0.9), colour(hue, 0.6, 0.2))
    )
    image = canvas(h, w, paper)
    left, right, top, bottom = 0.12 * w, 0.94 * w, 0.16 * h, 0.86 * h
    kind = int(rng.integers(10))
    box(image, left, top, right, bottom, colour(hue + 0.5, 0.15 + 0.3 * rng.random(), 0.35 if dark else 0.75))
    if kind not in (2, 6):
        for i in range(int(rng.integers(3, 9))):
            at = top + (bottom - top) * i / 8
            line(image, (left, at), (right, at), ink)
    count = int(rng.integers(4, 16))
    heights = rng.uniform(0.1, 0.95, (3, count))
    step = (right - left) / count
    if kind in (0, 1):
        for i in range(count):
            foot = bottom
            for layer in range(1 if kind == 0 else 3):
                tall = heights[layer, i] * (bottom - top) / (1 if kind == 0 else 3)
                box(
                    image,
                    left + i * step + 2,
                    foot - tall,
                    left + (i + 0.8) * step,
                    foot,
                    colours[layer if kind else i % 7],
                )
                foot -= tall
    elif kind == 2:
        centre, radius = (round(w * 0.5), round(h * 0.52)), round(min(h, w) * rng.uniform(0.28, 0.4))
        cuts = np.concatenate([[0], np.sort(rng.uniform(0, 360, int(rng.integers(2, 8)))), [360]])
        for i in range(len(cuts) - 1):
            cv2.ellipse(image, centre, (radius, radius), 0, cuts[i], cuts[i + 1], colours[i % 7], -1, cv2.LINE_AA)
        if rng.random() < 0.5:
            disc(image, *centre, radius * 0.5, paper)
    elif kind in (3, 4):
        for layer in range(3):
            walk = np.clip(np.cumsum(rng.normal(0, 0.09, 50)) + rng.uniform(0.3, 0.7), 0.02, 0.98)
            points = [
                (left + (right - left) * i / 49, bottom - (bottom - top) * float(v) * (1 - 0.2 * layer))
                for i, v in enumerate(walk)
            ]
            if kind == 4:
                polygon(image, [(left, bottom), *points, (right, bottom)], colours[layer])
            for a, b in pairwise(points):
                line(image, a, b, colours[layer + 3], 3)
    elif kind == 5:
        for group in range(int(rng.integers(2, 6))):
            middle = rng.uniform(0.2, 0.8, 2)
            for point in rng.normal(middle, rng.uniform(0.03, 0.14), (int(rng.integers(20, 90)), 2)):
                px, py = np.clip(point, 0.02, 0.98)
                disc(image, left + px * (right - left), top + py * (bottom - top), rng.uniform(2, 7), colours[group])
    elif kind == 6:
        rows, cols = rng.integers(4, 16, 2)
        cells = ramp(noise(rng, int(rows), int(cols), 3, 2), colours[:3]).astype(np.uint8)
        part = np.asarray(cv2.resize(cells, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_NEAREST))
        image[int(top) : int(top) + part.shape[0], int(left) : int(left) + part.shape[1]] = part
    elif kind == 7:
        cx, cy, reach, spokes = w * 0.53, h * 0.51, min(h, w) * 0.33, int(rng.integers(4, 10))
        for level in range(1, 5):
            polygon_ring = ring_points(cx, cy, [reach * level / 4] * spokes)
            for a, b in zip(polygon_ring, np.roll(polygon_ring, 1, axis=0), strict=True):
                line(image, tuple(a), tuple(b), ink)
        for layer in range(2):
            polygon(image, ring_points(cx, cy, reach * rng.uniform(0.3, 1, spokes) * (1 - 0.4 * layer)), colours[layer])
    elif kind == 8:
        for i in range(count):
            low, q1, q3, high = np.sort(rng.uniform(0.05, 0.95, 4))
            span, cx = bottom - top, left + (i + 0.5) * step
            line(image, (cx, bottom - low * span), (cx, bottom - high * span), ink, 2)
            box(image, cx - step * 0.3, bottom - q3 * span, cx + step * 0.3, bottom - q1 * span, colours[i % 7])
    else:
        for i in range(count):
            at = top + (bottom - top) * i / count
            box(
                image,
                left,
                at + 2,
                left + (right - left) * heights[0, i],
                at + (bottom - top) / count * 0.8,
                colours[i % 3],
            )
    line(image, (left, bottom), (right, bottom), ink, 2)
    line(image, (left, top), (left, bottom), ink, 2)
    title = ["Rainfall", "Exports", "Visitors", "Output", "Harvest", "Speed", "Growth", "Demand"][int(rng.integers(8))]
    image = letters(image, f"{title} {int(rng.integers(1950, 2030))}", w / 2, 0.08 * h, 0.08 * h, ink)
    for i in range(5):
        image = letters(
            image, str(int(rng.integers(0, 900))), left + (right - left) * (i + 0.5) / 5, 0.92 * h, 0.05 * h, ink
        )
    return finish(rng, image, 5)


def poster(rng: Rng) -> Pixels:
    """Lettering: a few words, large, set in lines, scattered, stacked or turned, over grounds of several kinds."""
    h, w = size(rng)
    colours = palette(rng, 6)
    image = backdrop(rng, h, w, colours)
    shade = sum(colours[0]) / 3
    ink = colours[2] if abs(sum(colours[2]) / 3 - shade) > 90 else ((250, 240, 220) if shade < 130 else (40, 20, 50))
    kind = int(rng.integers(7))
    words = [WORDS[int(i)] for i in rng.permutation(len(WORDS))]
    if kind == 0:
        image = letters(image, words[0], w / 2, h / 2, min(0.5 * h, 1.6 * w / len(words[0])), ink)
    elif kind == 1:
        rows = int(rng.integers(3, 8))
        for i in range(rows):
            image = letters(
                image,
                words[i],
                w / 2,
                h * (i + 0.5) / rows,
                min(0.8 * h / rows, 1.6 * w / len(words[i])),
                colours[i % 5 + 1],
            )
    elif kind == 2:
        for i in range(int(rng.integers(8, 22))):
            x, y = rng.uniform(0.05, 0.95, 2) * (w, h)
            image = letters(image, words[i], x, y, rng.uniform(0.06, 0.25) * h, colours[i % 5 + 1])
    elif kind == 3:
        for i in range(14):
            image = letters(image, " ".join(words[i % 20 : i % 20 + 5]), w * 0.06, h * (i + 1) / 16, h / 22, ink, "lm")
    elif kind == 4:
        box(image, w * 0.08, h * 0.1, w * 0.92, h * 0.9, colours[1])
        box(image, w * 0.08, h * 0.1, w * 0.92, h * 0.9, ink, 6)
        image = letters(image, words[0][:1].upper(), w / 2, h * 0.5, h * 0.75, colours[3])
    elif kind == 5:
        image = letters(image, words[0], w / 2, h / 2, min(0.4 * h, 1.3 * w / len(words[0])), ink)
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), float(rng.uniform(-60, 60)), float(rng.uniform(1.0, 1.5)))
        image = np.asarray(cv2.warpAffine(image, matrix, (w, h), borderMode=cv2.BORDER_REFLECT), np.uint8)
    else:
        disc(image, w / 2, h / 2, min(h, w) * 0.42, colours[1])
        disc(image, w / 2, h / 2, min(h, w) * 0.36, ink, 5)
        image = letters(image, words[0], w / 2, h / 2, min(0.25 * h, 1.0 * min(h, w) / len(words[0])), ink)
    return finish(rng, image)


def plant(rng: Rng) -> Pixels:
    """Flowers, seed heads, branching trees, cacti and leaves."""
    h, w = size(rng)
    colours = palette(rng, 6)
    image = backdrop(rng, h, w, [colours[0], colour(rng.uniform(0.2, 0.6), 0.4, rng.uniform(0.2, 0.9))])
    kind = int(rng.integers(5))
    green = colour(rng.uniform(0.2, 0.45), 0.7, rng.uniform(0.3, 0.7))
    if kind == 0:
        for _ in range(int(rng.integers(1, 9))):
            x, y, r = rng.uniform(0.15, 0.85) * w, rng.uniform(0.2, 0.7) * h, min(h, w) * rng.uniform(0.1, 0.3)
            line(image, (x, y), (x + rng.normal(0, 30), h), green, r / 8)
            petals, fill = int(rng.integers(5, 14)), colours[int(rng.integers(1, 6))]
            for px, py in ring_points(x, y, [r * 0.65] * petals, rng.random()):
                disc(image, px, py, r * 2.2 / petals, fill)
            disc(image, x, y, r * 0.35, colour(rng.uniform(0.05, 0.17), 0.9, 0.9))
    elif kind == 1:
        count, turn = int(rng.integers(150, 700)), 2.399963 + rng.choice([0, 0, 0.02, -0.01])
        for i in range(count):
            r = math.sqrt(i / count) * 0.5 * max(h, w)
            disc(
                image,
                w / 2 + r * math.cos(i * turn),
                h / 2 + r * math.sin(i * turn),
                2 + 9 * i / count,
                colours[i * 5 // count + 1],
            )
    elif kind == 2:
        spread, shrink, fill = rng.uniform(0.25, 0.6), rng.uniform(0.65, 0.78), colour(rng.uniform(0.02, 0.1), 0.6, 0.3)
        leaf = colours[1]

        def branch(x: float, y: float, length: float, angle: float, depth: int) -> None:
            ex, ey = x + length * math.cos(angle), y + length * math.sin(angle)
            line(image, (x, y), (ex, ey), fill, depth * 1.3)
            if depth == 0:
                disc(image, ex, ey, rng.uniform(3, 9), leaf)
                return
            for side in (-1, 1):
                branch(ex, ey, length * shrink, angle + side * spread + rng.normal(0, 0.15), depth - 1)

        for x in rng.uniform(0.1, 0.9, int(rng.integers(1, 4))) * w:
            branch(float(x), h * 0.97, h * rng.uniform(0.15, 0.28), -math.pi / 2, 7)
    elif kind == 3:
        box(image, 0, h * 0.8, w, h, colour(0.1, 0.5, 0.7))
        for x in rng.uniform(0.1, 0.9, int(rng.integers(1, 6))) * w:
            wide, tall = w * rng.uniform(0.04, 0.08), h * rng.uniform(0.3, 0.65)
            line(image, (x, h * 0.85), (x, h * 0.85 - tall), green, wide)
            for side in (-1, 1):
                arm, lift = h * 0.85 - tall * rng.uniform(0.3, 0.7), tall * rng.uniform(0.15, 0.35)
                line(image, (x, arm), (x + side * wide * 1.7, arm), green, wide * 0.6)
                line(image, (x + side * wide * 1.7, arm), (x + side * wide * 1.7, arm - lift), green, wide * 0.6)
    else:
        for _ in range(int(rng.integers(3, 40))):
            x, y, r, turn = (
                rng.uniform(0, w),
                rng.uniform(0, h),
                max(h, w) * rng.uniform(0.06, 0.25),
                rng.uniform(0, 6.3),
            )
            t = np.linspace(0, 1, 20)
            half = np.sin(t * math.pi) * rng.uniform(0.2, 0.45)
            shape = np.concatenate([np.stack([t, half], 1), np.stack([t[::-1], -half[::-1]], 1)]) * r
            spin = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
            polygon(image, shape @ spin + (x, y), colours[int(rng.integers(1, 6))])
            line(image, (x, y), (x + r * math.cos(turn), y + r * math.sin(turn)), colours[0], 2)
    return finish(rng, image)


def face(rng: Rng) -> Pixels:
    """A drawn face: person, robot, cat, owl or mask."""
    h, w = size(rng)
    colours = palette(rng, 7)
    image = backdrop(rng, h, w, colours)
    s, cx, cy = min(h, w) * rng.uniform(0.3, 0.44), w * rng.uniform(0.4, 0.6), h * rng.uniform(0.45, 0.58)
    kind, skin, hair = int(rng.integers(5)), colours[1], colours[2]
    if kind == 0:
        box(image, cx - s * 0.3, cy, cx + s * 0.3, h, skin)
        polygon(
            image,
            [(cx - s * 1.2, h), (cx - s * 0.5, cy + s * 0.95), (cx + s * 0.5, cy + s * 0.95), (cx + s * 1.2, h)],
            colours[3],
        )
        disc(image, cx, cy - s * 0.2, s * rng.uniform(0.85, 1.1), hair)
        cv2.ellipse(image, (round(cx), round(cy)), (round(s * 0.7), round(s * 0.9)), 0, 0, 360, skin, -1, cv2.LINE_AA)
    elif kind == 1:
        box(image, cx - s * 0.9, cy - s * 0.8, cx + s * 0.9, cy + s * 0.8, skin)
        line(image, (cx, cy - s * 0.8), (cx, cy - s * 1.2), hair, 5)
        disc(image, cx, cy - s * 1.2, s * 0.12, colours[3])
    elif kind in (2, 3):
        for side in (-1, 1):
            polygon(
                image,
                [(cx + side * s * 0.9, cy - s * 1.2), (cx + side * s * 0.95, cy), (cx + side * s * 0.1, cy - s * 0.6)],
                hair,
            )
        disc(image, cx, cy, s, skin)
    else:
        polygon(image, ring_points(cx, cy, s * rng.uniform(0.8, 1.2, 10)), skin)
    gap, eye = s * rng.uniform(0.3, 0.45), s * (0.3 if kind == 3 else rng.uniform(0.1, 0.24))
    for side in (-1, 1):
        disc(image, cx + side * gap, cy - s * 0.2, eye, (250, 248, 240))
        disc(image, cx + side * gap, cy - s * 0.2, eye * rng.uniform(0.3, 0.7), colours[4])
        disc(image, cx + side * gap, cy - s * 0.2, eye * 0.25, (15, 10, 20))
        if rng.random() < 0.5:
            line(
                image,
                (cx + side * gap * 0.5, cy - s * 0.5),
                (cx + side * gap * 1.5, cy - s * rng.uniform(0.4, 0.65)),
                hair,
                s / 14,
            )
    polygon(
        image,
        [(cx - s * 0.1, cy + s * 0.15), (cx + s * 0.1, cy + s * 0.15), (cx, cy + s * (0.35 if kind == 3 else 0.0))],
        colours[5],
    )
    if kind == 1:
        for i in range(6):
            box(
                image,
                cx - s * 0.5 + i * s * 0.17,
                cy + s * 0.4,
                cx - s * 0.5 + i * s * 0.17 + s * 0.12,
                cy + s * 0.55,
                colours[5],
            )
    else:
        mouth = (round(cx), round(cy + s * 0.4))
        cv2.ellipse(
            image,
            mouth,
            (round(s * rng.uniform(0.15, 0.4)), round(s * rng.uniform(0.05, 0.25))),
            0,
            0,
            180,
            colours[6],
            -1 if rng.random() < 0.5 else 5,
            cv2.LINE_AA,
        )
    if kind == 2:
        for side in (-1, 1):
            for k in range(3):
                line(
                    image,
                    (cx + side * s * 0.2, cy + s * 0.25),
                    (cx + side * s * 1.1, cy + s * (0.05 + 0.2 * k)),
                    (20, 20, 20),
                    2,
                )
    return finish(rng, image)


FAMILIES: dict[str, Callable[[Rng], Pixels]] = {
    "abstract": patterns.abstract,
    "chart": chart,
    "city": city,
    "fabric": patterns.fabric,
    "face": face,
    "fractal": patterns.fractal,
    "landscape": landscape,
    "map": chart_of_lands,
    "maze": patterns.maze,
    "mosaic": patterns.mosaic,
    "nebula": patterns.sky_field,
    "plant": plant,
    "poster": poster,
    "spheres": spheres,
    "tiling": patterns.tiling,
    "waves": patterns.waves,
}


def render(family: str, variant: int) -> Pixels:
    """Picture number variant of a family, (h, w, 3) uint8; the same for ever. Raises KeyError for an unknown family."""
    return FAMILIES[family](np.random.default_rng([sum(map(ord, family)), variant]))
