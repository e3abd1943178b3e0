// Shapes on the map: a lasso with few corners, and the point that is nearest to the pointer.

import { NOWHERE, SIDE } from "./points";

export type Spot = [number, number]; // of the map, 0 to 1

export const CORNERS = 64; // of a lasso at most

/** The lasso as the address has it; null where it holds no area. Corners beyond the map are put on its edge. */
export function textOf(drawn: Spot[]): string | null {
  const inside = drawn.map(([x, y]): Spot => [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))]);
  const few = simplified(inside, CORNERS);
  if (few.length < 3) return null;
  return few.map(([x, y]) => `${tidy(x)},${tidy(y)}`).join(",");
}

const tidy = (n: number) => String(Number(n.toFixed(5)));

export function spotsOf(text: string): Spot[] {
  const numbers = text.split(",").map(Number);
  const spots: Spot[] = [];
  for (let i = 0; i + 1 < numbers.length; i += 2) spots.push([numbers[i]!, numbers[i + 1]!]);
  return spots;
}

/** The corners that say most of a closed line, by Visvalingam and Whyatt: those go that span the least area. */
export function simplified(line: Spot[], most: number): Spot[] {
  const left = line.filter((spot, i) => i === 0 || spot[0] !== line[i - 1]![0] || spot[1] !== line[i - 1]![1]);
  const area = (i: number) => {
    const [ax, ay] = left[(i + left.length - 1) % left.length]!;
    const [bx, by] = left[i]!;
    const [cx, cy] = left[(i + 1) % left.length]!;
    return Math.abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay));
  };
  while (left.length > 3) {
    let least = 0;
    for (let i = 1; i < left.length; i++) if (area(i) < area(least)) least = i;
    if (left.length <= most && area(least) > 1e-7) break;
    left.splice(least, 1);
  }
  return left;
}

const CELLS = 512;

/** Finds the nearest point: all are dealt into squares once. */
export class Finder {
  private readonly starts = new Uint32Array(CELLS * CELLS + 1);
  private readonly rows: Uint32Array;

  constructor(
    private readonly positions: Uint16Array,
    rows: Uint32Array,
  ) {
    for (const row of rows) this.starts[this.cell(row) + 1]!++;
    for (let i = 0; i < CELLS * CELLS; i++) this.starts[i + 1]! += this.starts[i]!;
    const next = this.starts.slice();
    this.rows = new Uint32Array(rows.length);
    for (const row of rows) this.rows[next[this.cell(row)]!++] = row;
  }

  private cell(row: number): number {
    return (this.positions[2 * row + 1]! >> 7) * CELLS + (this.positions[2 * row]! >> 7);
  }

  /** The row nearest to a spot and not farther than `reach`, of those that are held where one is. */
  near([x, y]: Spot, reach: number, held: Uint8Array | null): number | null {
    const [px, py, far] = [x * SIDE, y * SIDE, reach * SIDE];
    const low = (at: number) => Math.max(0, Math.min(CELLS - 1, Math.floor(at / 128)));
    const found: [number, number][] = [
      [-1, far * far],
      [-1, far * far],
    ];
    for (let r = low(py - far); r <= low(py + far); r++) {
      const [first, last] = [this.starts[r * CELLS + low(px - far)]!, this.starts[r * CELLS + low(px + far) + 1]!];
      for (let i = first; i < last; i++) {
        const row = this.rows[i]!;
        const [dx, dy] = [this.positions[2 * row]! - px, this.positions[2 * row + 1]! - py];
        const kind = found[!held || held[row] ? 0 : 1]!;
        if (this.positions[2 * row] !== NOWHERE && dx * dx + dy * dy <= kind[1]) {
          kind[0] = row;
          kind[1] = dx * dx + dy * dy;
        }
      }
    }
    const row = found[0]![0] >= 0 ? found[0]![0] : found[1]![0];
    return row >= 0 ? row : null;
  }
}
