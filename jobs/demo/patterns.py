"""Rendered patterns in families: pictures of no thing, such as tilings, waves and fractals."""

import math
from itertools import pairwise

import cv2
import numpy as np

from jobs.demo.drawing import (
    Floats,
    Pixels,
    Rng,
    backdrop,
    box,
    canvas,
    colour,
    disc,
    finish,
    grid,
    line,
    noise,
    palette,
    polygon,
    ramp,
    ring_points,
    size,
)


def fractal(rng: Rng) -> Pixels:
    """Julia sets, Newton basins and burning ships in a palette of their own."""
    h, w = size(rng)
    x, y = grid(h, w)
    turn, zoom = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.6)
    z = ((x + 1j * y) * np.exp(1j * turn) * zoom + (rng.normal(0, 0.15) + 1j * rng.normal(0, 0.15))).astype(
        np.complex64
    )
    kind = int(rng.integers(4))
    values = np.zeros((h, w), np.float32)
    if kind == 3:
        order = int(rng.integers(3, 8))
        relax = rng.uniform(0.6, 1.5)
        for _ in range(14):
            z = np.where(np.abs(z) < 0.05, 0.05, z)  # the step from near 0 would leave the number range
            z = z - relax * (z**order - 1) / (order * z ** (order - 1))
            z = np.where(np.abs(z) > 20, 20 * z / np.abs(z), z)
            values += np.exp(-np.abs(z**order - 1)).astype(np.float32)
        shade = ((np.angle(z) / (2 * math.pi)) % 1.0).astype(np.float32)
        image = ramp(shade, palette(rng, order + 1)) * (0.45 + 0.55 * values / values.max())[..., None]
        return finish(rng, image)
    power = 2 if kind == 0 else int(rng.integers(2, 5))
    angle = rng.uniform(0, 2 * math.pi)
    c = complex(0.7885 * np.exp(1j * angle)) if kind == 0 else complex(rng.uniform(-0.9, 0.5), rng.uniform(-0.8, 0.8))
    escaped = np.zeros((h, w), bool)
    for step in range(48):
        if kind == 2:
            z = (np.abs(z.real) + 1j * np.abs(z.imag)).astype(np.complex64)
        z = np.where(escaped, z, z**power + c)
        out = (np.abs(z) > 4) & ~escaped
        values[out] = step + 1 - np.log2(np.log(np.abs(z[out])))
        escaped |= out
    inner = np.clip(np.abs(z) / 2, 0, 1).astype(np.float32)
    values = np.where(escaped, np.sqrt(np.clip(values, 0, None) / 48), inner)
    return finish(rng, ramp((values * rng.uniform(1, 3)) % 1.0, palette(rng, int(rng.integers(3, 7)))))


def tiling(rng: Rng) -> Pixels:
    """A plane filled with squares, triangles, hexagons, bricks, arcs, diamonds, scales, weave or stars."""
    h, w = size(rng)
    colours = palette(rng, int(rng.integers(3, 7)))
    n = len(colours)
    image = canvas(h, w, colours[0])
    kind, s = int(rng.integers(10)), float(rng.uniform(18, 80))
    for j, y in enumerate(np.arange(-s, h + s, s)):
        for i, x in enumerate(np.arange(-s, w + s, s)):
            pick = colours[int(rng.integers(n))]
            if kind == 0:
                box(image, x, y, x + s, y + s, colours[(i + j) % n])
            elif kind == 1:
                polygon(image, [(x, y), (x + s, y), (x, y + s)], pick)
                polygon(image, [(x + s, y + s), (x + s, y), (x, y + s)], colours[(i + j) % n])
            elif kind == 2:
                shift = s / 2 * (j % 2)
                polygon(image, ring_points(x + shift, y * 0.87, [s * 0.55] * 6, math.pi / 6), pick)
            elif kind == 3:
                box(image, x * 2 + s * (j % 2), y, x * 2 + s * (j % 2) + 2 * s - 4, y + s - 4, pick)
            elif kind == 4:
                if rng.random() < 0.5:
                    for cx, cy in ((x, y), (x + s, y + s)):
                        disc(image, cx, cy, s / 2, colours[1], max(3, round(s / 6)))
                else:
                    for cx, cy in ((x + s, y), (x, y + s)):
                        disc(image, cx, cy, s / 2, colours[2], max(3, round(s / 6)))
            elif kind == 5:
                polygon(
                    image,
                    [(x + s / 2, y), (x + s, y + s / 2), (x + s / 2, y + s), (x, y + s / 2)],
                    colours[(i * j) % n],
                )
            elif kind == 6:
                for k in range(3):
                    disc(image, x + s / 2 * (j % 2), y, s * (0.6 - 0.18 * k), colours[(k + j) % n])
            elif kind == 7:
                a, b = (0.0, 0.25) if (i + j) % 2 else (0.25, 0.0)
                box(image, x + a * s, y + b * s, x + s - a * s, y + s - b * s, colours[(i + j) % 2 + 1])
                box(image, x + a * s, y + b * s, x + s - a * s, y + s - b * s, colours[0], 2)
            elif kind == 8:
                radii = [s * 0.55, s * 0.22] * int(4 + (i + j) % 3)
                polygon(image, ring_points(x, y, radii, rng.random()), pick)
            else:
                direction = 1 if (i + j) % 2 else -1
                for k in range(4):
                    at = s * k / 4
                    ends = ((x + at, y), (x + at, y + s)) if direction > 0 else ((x, y + at), (x + s, y + at))
                    line(image, *ends, pick, s / 9)
    if rng.random() < 0.5:
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), float(rng.uniform(10, 80)), 1.7)
        image = np.asarray(cv2.warpAffine(image, matrix, (w, h), borderMode=cv2.BORDER_REFLECT), np.uint8)
    return finish(rng, image)


def abstract(rng: Rng) -> Pixels:
    """A composition of discs, blades, bars, arcs and splinters."""
    h, w = size(rng)
    colours = palette(rng, 7)
    image = backdrop(rng, h, w, colours)
    kinds = rng.permutation(6)[: int(rng.integers(1, 4))]
    span = max(h, w)
    for _ in range(int(rng.integers(6, 45))):
        kind, fill = int(rng.choice(kinds)), colours[int(rng.integers(1, 7))]
        x, y, s = rng.uniform(0, w), rng.uniform(0, h), span * rng.uniform(0.03, 0.28)
        if kind == 0:
            disc(image, x, y, s * 0.6, fill)
        elif kind == 1:
            polygon(image, ring_points(x, y, s * rng.uniform(0.3, 1.2, 3), rng.uniform(0, 6)), fill)
        elif kind == 2:
            dx, dy = rng.normal(0, s * 1.4, 2)
            line(image, (x - dx, y - dy), (x + dx, y + dy), fill, rng.uniform(2, 22))
        elif kind == 3:
            turn = float(rng.uniform(0, 360))
            axes = (round(s), round(s * rng.uniform(0.4, 1)))
            cv2.ellipse(
                image,
                (round(x), round(y)),
                axes,
                turn,
                0,
                float(rng.uniform(90, 300)),
                fill,
                int(rng.integers(3, 20)),
                cv2.LINE_AA,
            )
        elif kind == 4:
            box(image, x, y, x + s * rng.uniform(0.3, 2), y + s * rng.uniform(0.3, 1), fill)
        else:
            polygon(image, ring_points(x, y, s * rng.uniform(0.3, 1, int(rng.integers(5, 14)))), fill)
    return finish(rng, image)


def waves(rng: Rng) -> Pixels:
    """Sums of ripples, spirals and stripes, bent by noise."""
    h, w = size(rng)
    x, y = grid(h, w)
    bend = rng.uniform(0, 1.2)
    x = x + bend * (noise(rng, h, w, rng.uniform(1, 4), 2) - 0.5)
    y = y + bend * (noise(rng, h, w, rng.uniform(1, 4), 2) - 0.5)
    total: Floats = np.zeros((h, w), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        kind, rate = int(rng.integers(4)), rng.uniform(6, 60)
        cx, cy = rng.uniform(-0.8, 0.8, 2)
        radius, angle = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
        if kind == 0:
            total += np.sin(radius * rate)
        elif kind == 1:
            turn = rng.uniform(0, 3)
            total += np.sin((x * math.cos(turn) + y * math.sin(turn)) * rate)
        elif kind == 2:
            total += np.sin(radius * rate / 2 + angle * int(rng.integers(1, 9)))
        else:
            total += np.sin(angle * int(rng.integers(4, 24)))
    values = 0.5 + 0.5 * total / max(float(np.abs(total).max()), 1e-6)
    if rng.random() < 0.4:
        values = np.floor(values * 5) / 5
    return finish(rng, ramp(values.astype(np.float32), palette(rng, int(rng.integers(2, 6)))))


def mosaic(rng: Rng) -> Pixels:
    """Cells around scattered points: stained glass, crackle, pebbles, low-polygon shading."""
    h, w = size(rng)
    colours = palette(rng, int(rng.integers(3, 8)))
    count, power = int(rng.choice([12, 25, 60, 150])), float(rng.choice([1.0, 2.0, 2.0, 4.0]))
    points = rng.uniform(0, 1, (count, 2)) * (w, h)
    if rng.random() < 0.3:
        radius, angle = np.sqrt(np.arange(count) / count) * 0.6 * max(h, w), np.arange(count) * 2.4
        points = np.stack([w / 2 + radius * np.cos(angle), h / 2 + radius * np.sin(angle)], 1)
    y, x = np.mgrid[0:h:2, 0:w:2].astype(np.float32)
    far = np.stack([np.abs(x - px) ** power + np.abs(y - py) ** power for px, py in points.astype(np.float32)])
    near = np.partition(far, 1, axis=0)[:2] ** (1 / power)
    owner = far.argmin(axis=0)
    fills = np.array([colours[int(i)] for i in rng.integers(0, len(colours), count)], np.float32) * rng.uniform(
        0.7, 1.1, (count, 1)
    )
    image = fills[owner]
    edge, kind = near[1] - near[0], int(rng.integers(4))
    if kind == 0:
        image = np.where((edge < 4)[..., None], 25, image)
    elif kind == 1:
        image = image * np.clip(edge / max(float(edge.mean()), 1e-6), 0.15, 1.1)[..., None]
    elif kind == 2:
        image = image * (1 - 0.7 * near[0] / near[0].max())[..., None]
    else:
        image = ramp((near[0] / near[0].max()).astype(np.float32), colours)
    return finish(rng, np.asarray(cv2.resize(np.clip(image, 0, 255).astype(np.float32), (w, h))))


def sky_field(rng: Rng) -> Pixels:
    """Nebulae, flames, smoke, marble and auroras, some with stars."""
    h, w = size(rng)
    x, y = grid(h, w)
    kind = int(rng.integers(5))
    base = noise(rng, h, w, rng.uniform(1.5, 5), 6)
    warp = noise(rng, h, w, rng.uniform(1.5, 4), 4)
    stops = [colour(rng.random(), 0.8, 0.12), *palette(rng, int(rng.integers(2, 5)))]
    if kind == 0:
        values = base * warp * 1.6
    elif kind == 1:
        values = 0.5 + 0.5 * np.sin((x * rng.uniform(2, 12) + y * rng.uniform(-6, 6)) + base * rng.uniform(6, 22))
    elif kind == 2:
        values = np.abs(base - 0.5) * 2
        values = 1 - values ** rng.uniform(0.3, 0.8)
    elif kind == 3:
        values = np.clip(0.5 + y, 0, 1) * (0.3 + base) * 1.1
    else:
        rays = noise(rng, 2, w, rng.uniform(6, 20), 4)[0][None, :]
        values = np.clip(rays * np.exp(-np.abs(y + 0.3 + 0.5 * (warp - 0.5)) * 3) * 1.6, 0, 1)
    image = ramp(np.clip(values, 0, 1).astype(np.float32), stops).astype(np.uint8)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(40, 300))):
            disc(image, rng.uniform(0, w), rng.uniform(0, h), rng.exponential(1.1), colour(rng.random(), 0.3, 1.0))
    return finish(rng, image)


def fabric(rng: Rng) -> Pixels:
    """Tartan, stripes, zigzag, polka dots, quilt and knit."""
    h, w = size(rng)
    colours = palette(rng, 6)
    kind, s = int(rng.integers(6)), rng.uniform(14, 60)
    image = canvas(h, w, colours[0]).astype(np.float32)
    if kind in (0, 1):
        across, down = np.array(image), np.array(image)
        for target, length in ((across, w), (down, h)):
            at = 0.0
            while at < length:
                wide, fill = rng.uniform(0.1, 1.4) * s, colours[int(rng.integers(6))]
                part = np.s_[:, int(at) : int(at + wide)] if target is across else np.s_[int(at) : int(at + wide), :]
                target[part] = fill
                at += wide
        image = (across + down) / np.float32(2) if kind == 0 else across
    pixels = image.astype(np.uint8)
    if kind == 2:
        for j, y in enumerate(np.arange(-s * 2, h + s * 2, s)):
            points = [(i * s * 0.7, y + (s * 0.8 if i % 2 else 0)) for i in range(int(w / s * 1.5) + 3)]
            for a, b in pairwise(points):
                line(pixels, a, b, colours[j % 5 + 1], s * 0.55)
    elif kind == 3:
        for j, y in enumerate(np.arange(0, h + s, s)):
            for i, x in enumerate(np.arange(0, w + s, s)):
                disc(pixels, x + s / 2 * (j % 2), y, s * 0.3, colours[(i % 3 if rng.random() < 0.8 else 4) + 1])
    elif kind == 4:
        for j, y in enumerate(np.arange(0, h, s * 1.8)):
            for i, x in enumerate(np.arange(0, w, s * 1.8)):
                box(pixels, x, y, x + s * 1.8, y + s * 1.8, colours[(i + 2 * j) % 6])
                polygon(
                    pixels,
                    ring_points(x + s * 0.9, y + s * 0.9, [s * 0.85, s * 0.3] * int(rng.integers(2, 7))),
                    colours[(i * j + 1) % 6],
                )
    elif kind == 5:
        marks = noise(rng, int(h / 8) + 2, int(w / 8) + 2, rng.uniform(2, 6), 2)
        for j in range(marks.shape[0]):
            for i in range(marks.shape[1]):
                fill = colours[int(marks[j, i] * 4.99)]
                line(pixels, (i * 8, j * 8), (i * 8 + 4, j * 8 + 6), fill, 4)
                line(pixels, (i * 8 + 8, j * 8), (i * 8 + 4, j * 8 + 6), fill, 4)
    thread = (
        1 + 0.1 * np.sin(np.arange(h) * rng.uniform(1, 3))[:, None] * np.sin(np.arange(w) * rng.uniform(1, 3))[None, :]
    )
    if kind < 2 and rng.random() < 0.5:
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), float(rng.uniform(15, 75)), 1.6)
        pixels = np.asarray(cv2.warpAffine(pixels, matrix, (w, h), borderMode=cv2.BORDER_REFLECT), np.uint8)
    return finish(rng, pixels * thread[..., None])


def maze(rng: Rng) -> Pixels:
    """Lines that lead somewhere: mazes, circuit boards, tangles, nets of nodes."""
    h, w = size(rng)
    colours = palette(rng, 6)
    image = backdrop(rng, h, w, colours)
    kind, s = int(rng.integers(5)), rng.uniform(12, 36)
    ink = max(colours[2:], key=lambda c: abs(sum(c) - sum(colours[0])))
    if kind == 0:
        for y in np.arange(0, h, s):
            for x in np.arange(0, w, s):
                ends = ((x, y), (x + s, y + s)) if rng.random() < 0.5 else ((x + s, y), (x, y + s))
                line(image, *ends, ink, s / 6)
    elif kind == 1:
        for _ in range(int(rng.integers(15, 50))):
            x, y = np.round(rng.uniform(0, 1, 2) * (w, h) / s) * s
            fill = colours[int(rng.integers(2, 6))]
            disc(image, x, y, 6, fill)
            for _ in range(int(rng.integers(2, 7))):
                dx, dy = rng.choice([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1)]) * s * int(rng.integers(1, 4))
                line(image, (x, y), (x + dx, y + dy), fill, 4)
                x, y = x + dx, y + dy
            disc(image, x, y, 6, fill)
        for _ in range(int(rng.integers(1, 6))):
            x, y = rng.uniform(0, 0.8, 2) * (w, h)
            box(image, x, y, x + s * 3, y + s * 2, (30, 30, 35))
    elif kind == 2:
        for fill in colours[1:]:
            walk = np.cumsum(rng.normal(0, s, (60, 2)), axis=0) + np.array((w / 2, h / 2))
            smooth = np.asarray(cv2.resize(walk.astype(np.float32), (2, 600), interpolation=cv2.INTER_CUBIC))
            for a, b in pairwise(smooth):
                line(image, tuple(a), tuple(b), fill, 5)
    elif kind == 3:
        nodes = rng.uniform(0.05, 0.95, (int(rng.integers(10, 45)), 2)) * (w, h)
        for a in nodes:
            for i in np.argsort(np.hypot(*(nodes - a).T))[1:4]:
                line(image, tuple(a), tuple(nodes[i]), ink, 2)
        for i, (x, y) in enumerate(nodes):
            disc(image, x, y, rng.uniform(5, 16), colours[i % 4 + 1])
    else:
        for i in range(1, int(max(h, w) / s)):
            for _ in range(4):
                start = float(rng.uniform(0, 360))
                cv2.ellipse(
                    image,
                    (round(w / 2), round(h / 2)),
                    (round(i * s), round(i * s)),
                    0,
                    start,
                    start + float(rng.uniform(30, 85)),
                    colours[i % 4 + 1],
                    max(2, round(s / 4)),
                    cv2.LINE_AA,
                )
    return finish(rng, image)
