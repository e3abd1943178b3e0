// Colours of the map: far apart for the most common values, of one lightness that stands out from the page.

import { SHADES } from "../api";
import type { Colour } from "./points";

// Lightness, chroma and hue of OKLCH on a light page, in the order in which they are given.
const VALUES: Colour[] = [
  [0.56, 0.17, 255],
  [0.66, 0.17, 48],
  [0.56, 0.15, 150],
  [0.6, 0.2, 335],
  [0.74, 0.15, 92],
  [0.62, 0.11, 205],
  [0.54, 0.2, 25],
  [0.5, 0.19, 292],
  [0.7, 0.18, 128],
  [0.44, 0.07, 60],
];
const SECOND = 0.14; // how much lighter, and half as strong, the second ten are
const DARK = 0.14; // how much lighter all are on a dark page
export const OTHERS = 21;

/** Colours by code: none, twenty values, others. */
export function palette(dark: boolean): Colour[] {
  const none: Colour = oklch(dark ? 0.58 : 0.66, 0.01, 250);
  const values = Array.from({ length: 20 }, (_, i): Colour => {
    const [l, c, hue] = VALUES[i % VALUES.length]!;
    const second = i >= VALUES.length;
    return oklch(Math.min(0.88, l + (second ? SECOND : 0) + (dark ? DARK : 0)), second ? c / 2 : c, hue);
  });
  return [none, ...values, oklch(dark ? 0.5 : 0.74, 0.03, 250)];
}

export const STOPS = 21; // of a scale

/** Colours of a scale, and first that of points without a score: from low to high ever lighter, so that they are told
apart without colours too, and never as light, or as dark, as the page. */
export function ramp(dark: boolean): Colour[] {
  const none: Colour = oklch(dark ? 0.42 : 0.8, 0.006, 250);
  const [low, high] = dark ? [0.46, 0.93] : [0.33, 0.79];
  const stops = Array.from({ length: STOPS }, (_, i): Colour => {
    const part = i / (STOPS - 1);
    return oklch(low + (high - low) * part, 0.15 - 0.02 * part, 315 - 215 * part);
  });
  return [none, ...stops];
}

/** The colour of a code of a scale, as the map mixes it. */
export function shade(code: number, dark: boolean): Colour {
  const all = ramp(dark);
  if (!code) return all[0]!;
  const at = (Math.min(SHADES, code) - 1) / (SHADES - 1) * (STOPS - 1);
  const [first, part] = [Math.floor(at), at - Math.floor(at)];
  const [a, b] = [all[1 + first]!, all[Math.min(STOPS, 2 + first)]!];
  return a.map((one, i) => one * (1 - part) + b[i]! * part) as Colour;
}

export const faint = (dark: boolean): Colour => oklch(dark ? 0.3 : 0.9, 0.008, 250);
export const single = (dark: boolean): Colour => oklch(dark ? 0.78 : 0.5, 0.1, 190);
export const css = (colour: Colour) => `rgb(${colour.map((one) => Math.round(one * 255)).join(" ")})`;

/** Björn Ottosson 2020; channels that sRGB has not are cut off. */
function oklch(l: number, c: number, hue: number): Colour {
  const [a, b] = [c * Math.cos((hue * Math.PI) / 180), c * Math.sin((hue * Math.PI) / 180)];
  const [x, y, z] = [
    (l + 0.3963377774 * a + 0.2158037573 * b) ** 3,
    (l - 0.1055613458 * a - 0.0638541728 * b) ** 3,
    (l - 0.0894841775 * a - 1.291485548 * b) ** 3,
  ];
  return [
    4.0767416621 * x - 3.3077115913 * y + 0.2309699292 * z,
    -1.2684380046 * x + 2.6097574011 * y - 0.3413193965 * z,
    -0.0041960863 * x - 0.7034186147 * y + 1.707614701 * z,
  ].map((one) => {
    const inside = Math.min(1, Math.max(0, one));
    return inside <= 0.0031308 ? 12.92 * inside : 1.055 * inside ** (1 / 2.4) - 0.055;
  }) as Colour;
}
