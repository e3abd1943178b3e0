"""Pictures of places and of made things: landscapes, cities, maps, spheres."""

import math
from itertools import pairwise

import numpy as np

from jobs.demo.drawing import (
    Pixels,
    Rng,
    backdrop,
    box,
    canvas,
    colour,
    disc,
    finish,
    grid,
    letters,
    line,
    noise,
    palette,
    polygon,
    ramp,
    ring_points,
    size,
)

WORDS = (
    "HARBOUR MARKET", "open late", "Jazz", "NO 7", "Fresh bread", "EXIT", "Summer sale", "RADIO", "The long way home",
    "Lemon", "42 km", "Museum", "WET PAINT", "Bonjour", "Stop & listen", "Quartz", "HELLO", "Night train", "Coffee",
    "Vote", "Kino", "& Sons", "A to Z", "Library", "99", "Opera", "Please queue", "North", "Blue Moon", "Fin",
)  # fmt: skip


def landscape(rng: Rng) -> Pixels:
    """Ridges of hills under a sky with a sun; some with water, some with firs, some with snow."""
    h, w = size(rng)
    hue, other = rng.random(2)
    sky = [colour(hue, rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.95)), colour(other, rng.uniform(0.2, 0.7), 0.95)]
    _, y = grid(h, w)
    light = ramp(np.clip(y * 0.8 + 0.6, 0, 1), sky)
    if rng.random() < 0.6:
        cloud = np.clip(noise(rng, h, w, rng.uniform(2, 5), 5) * 2.2 - 1.0, 0, 1)[..., None]
        light = light * (1 - cloud) + 250 * cloud
    image = light.astype(np.uint8)
    disc(
        image,
        rng.uniform(0.1, 0.9) * w,
        rng.uniform(0.1, 0.4) * h,
        rng.uniform(0.04, 0.16) * w,
        colour(rng.uniform(0, 0.17), rng.uniform(0.1, 0.9), 1.0),
    )
    ridges = int(rng.integers(2, 6))
    ground, rough = rng.random(), rng.uniform(1, 7)
    top = rng.uniform(0.3, 0.6)
    for ridge in range(ridges):
        base = top + (0.95 - top) * ridge / ridges
        profile = noise(rng, 2, w, rough, 5)[0] * rng.uniform(0.1, 0.4) * h
        heights = base * h + 0.1 * h - profile
        fill = colour(ground + 0.05 * ridge, rng.uniform(0.3, 0.8), 0.75 - 0.5 * ridge / ridges)
        polygon(image, [(0, h), *[(i, float(heights[i])) for i in range(0, w, 2)], (w, h)], fill)
        if ridge and rng.random() < 0.5:
            for i in rng.integers(0, w, int(rng.integers(6, 40))):
                tall, foot = rng.uniform(0.04, 0.16) * h, float(heights[i])
                polygon(
                    image,
                    [(i - tall / 4, foot + 4), (i, foot - tall), (i + tall / 4, foot + 4)],
                    colour(ground + 0.1, 0.7, 0.2 + 0.1 * rng.random()),
                )
    if rng.random() < 0.4:
        water = int(h * rng.uniform(0.65, 0.8))
        part = image[2 * water - h : water][::-1]
        image[water:h] = (part * 0.6 + np.array(sky[0]) * 0.35).astype(np.uint8)[: h - water]
        for row in rng.integers(water, h, 25):
            start = rng.uniform(0, w)
            line(image, (start, row), (start + rng.uniform(5, 60), row), sky[1])
    return finish(rng, image)


def city(rng: Rng) -> Pixels:
    """A street front or a skyline: houses with windows, roofs and doors, by day or at dusk."""
    h, w = size(rng)
    dusk = rng.random() < 0.5
    hue = rng.random()
    sky = [colour(hue, 0.7, 0.3 if dusk else 0.8), colour(rng.random(), 0.5, 0.8 if dusk else 0.97)]
    _, y = grid(h, w)
    image = ramp(np.clip(y * 0.7 + 0.5, 0, 1), sky).astype(np.uint8)
    if rng.random() < 0.5:
        disc(
            image,
            rng.uniform(0.1, 0.9) * w,
            rng.uniform(0.08, 0.3) * h,
            rng.uniform(0.04, 0.1) * w,
            colour(0.13, 0.3, 1.0),
        )
    colours = palette(rng, 6)
    rows, roofs, tight = int(rng.integers(1, 4)), int(rng.integers(4)), rng.uniform(0.3, 0.7)
    for row in range(rows):
        x = -10.0
        while x < w:
            wide = w * rng.uniform(0.08, 0.3)
            tall = h * rng.uniform(0.25, 0.85) * (1 - 0.2 * row)
            fill = colours[int(rng.integers(6))]
            top = h - tall
            box(image, x, top, x + wide, h, fill)
            if roofs == 1:
                polygon(
                    image,
                    [(x - 3, top), (x + wide / 2, top - wide * 0.6), (x + wide + 3, top)],
                    colours[int(rng.integers(6))],
                )
            elif roofs == 2:
                disc(image, x + wide / 2, top, wide / 2, fill)
            elif roofs == 3:
                line(image, (x + wide / 2, top), (x + wide / 2, top - h * 0.12), fill, 4)
            cell = wide / int(rng.integers(2, 7))
            lit = colour(0.13, 0.5, 1.0) if dusk else colour(hue, 0.4, 0.4)
            for wy in np.arange(top + cell * 0.4, h - cell * 0.3, cell * 1.2):
                for wx in np.arange(x + cell * 0.2, x + wide - cell * 0.5, cell):
                    if rng.random() < 0.8:
                        box(
                            image,
                            wx,
                            wy,
                            wx + cell * tight,
                            wy + cell * 0.7,
                            lit if rng.random() < 0.7 else colour(hue, 0.5, 0.2),
                        )
            x += wide + rng.uniform(0, 0.08) * w
    if rng.random() < 0.5:
        box(image, 0, h * 0.92, w, h, colour(rng.random(), 0.2, 0.35))
        for dash in range(0, w, 40):
            box(image, dash, h * 0.95, dash + 20, h * 0.965, (240, 230, 150))
    return finish(rng, image)


def chart_of_lands(rng: Rng) -> Pixels:
    """A map: coasts, height layers, rivers, roads, a grid of streets."""
    h, w = size(rng)
    colours = palette(rng, 7)
    heights = noise(rng, h, w, rng.uniform(1.5, 5), 6)
    kind = int(rng.integers(4))
    if kind == 0:
        image = ramp((np.floor(heights * 9) / 9).astype(np.float32), sorted(colours, key=sum)).astype(np.uint8)
    elif kind == 1:
        land = ramp(heights, colours[:3])
        sea = np.array(colour(rng.uniform(0.5, 0.65), 0.6, rng.uniform(0.4, 0.8)))
        image = np.where((heights > 0.5)[..., None], land, sea).astype(np.uint8)
    elif kind == 2:
        image = ramp(heights, colours[:2]).astype(np.uint8)
        level = (heights * rng.uniform(8, 20)) % 1.0
        image[level < 0.12] = colours[3]
    else:
        image = canvas(h, w, colour(rng.random(), 0.2, 0.85))
        for fill in colours[:3]:
            polygon(image, ring_points(rng.uniform(0, w), rng.uniform(0, h), w * rng.uniform(0.1, 0.3, 9)), fill)
        turn, step = rng.uniform(0, 1.5), rng.uniform(25, 60)
        for i in range(-30, 30):
            for angle in (turn, turn + math.pi / 2):
                ox, oy = w / 2 - math.sin(angle) * i * step, h / 2 + math.cos(angle) * i * step
                dx, dy = math.cos(angle) * 800, math.sin(angle) * 800
                line(image, (ox - dx, oy - dy), (ox + dx, oy + dy), (250, 250, 235), 7 if i % 4 == 0 else 3)
    for _ in range(int(rng.integers(0, 6))):
        walk = np.cumsum(rng.normal(0, 14, (40, 2)) + rng.normal(0, 8, 2), axis=0) + rng.uniform(0, 1, 2) * (w, h)
        for a, b in pairwise(walk):
            line(image, tuple(a), tuple(b), colours[5], int(rng.integers(2, 5)))
    for _ in range(int(rng.integers(0, 12))):
        x, y = rng.uniform(0.05, 0.9) * w, rng.uniform(0.05, 0.9) * h
        disc(image, x, y, 4, (200, 30, 30))
        image = letters(image, WORDS[int(rng.integers(len(WORDS)))][:8], x + 6, y, 14, (30, 20, 40), "lm")
    return finish(rng, image)


def spheres(rng: Rng) -> Pixels:
    """Lit balls: planets with bands, marbles, bubbles, one large or many small."""
    h, w = size(rng)
    colours = palette(rng, 7)
    image = backdrop(rng, h, w, colours).astype(np.float32)
    many = int(rng.choice([1, 2, 5, 12, 40]))
    light = rng.normal(0, 1, 2) * 0.5
    kind = int(rng.integers(4))
    for _ in range(many):
        r = min(h, w) * (rng.uniform(0.28, 0.45) if many < 3 else rng.uniform(0.05, 0.9 / math.sqrt(many)))
        cx, cy = (rng.uniform(0.3, 0.7, 2) if many < 3 else rng.uniform(0, 1, 2)) * (w, h)
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        x, y = (x - cx) / r, (y - cy) / r
        inside = x * x + y * y < 1
        z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
        shade = np.clip(0.25 + 0.75 * (z * 0.8 + x * light[0] + y * light[1]), 0.08, 1.2)
        ball_colours = [colours[int(i)] for i in rng.integers(1, 7, 3)]
        if kind == 0:
            skin = ramp(
                (0.5 + 0.5 * np.sin(y * rng.uniform(4, 16) + rng.normal(0, 0.4) * x)).astype(np.float32), ball_colours
            )
        elif kind == 1:
            skin = ramp(noise(rng, h, w, rng.uniform(5, 14), 5), ball_colours)
        elif kind == 2:
            skin = np.broadcast_to(np.array(ball_colours[0], np.float32), image.shape)
        else:
            skin = image * 0.7 + 60 * (1 - z)[..., None]
        gleam = 200 * np.clip(z * 0.8 + x * light[0] + y * light[1] - 0.15, 0, 1) ** 24
        image = np.where(inside[..., None], np.clip(skin * shade[..., None] + gleam[..., None], 0, 255), image)
    return finish(rng, image)
