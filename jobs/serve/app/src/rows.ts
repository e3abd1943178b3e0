// The rows of one view: fetched by the page, kept within a bound, and patched when a decision is made.

import { useLayoutEffect, useReducer } from "preact/hooks";
import type { Decision, Row } from "./api";
import { api, stopped } from "./api";
import { words } from "./state";

const PAGE = 200; // rows in one request
const BOUND = 20_000; // rows that are kept
const SETTLE_MS = 90; // how long a hasty reader must rest before rows are asked for

export class Rows {
  total: number | null = null;
  error: string | null = null;
  private rows = new Map<number, Row>();
  private stale = new Set<number>(); // pages to fetch again although rows of them are there
  private flights = new Map<number, AbortController>();
  private listeners = new Set<() => void>();
  private wanted: [number, number] = [0, PAGE];
  private timer = 0;

  constructor(readonly query: string) {}

  get(index: number): Row | undefined {
    return this.rows.get(index);
  }

  /** Where a picture stands, if its row is at hand. */
  indexOf(id: number): number | null {
    for (const [index, row] of this.rows) if (row.id === id) return index;
    return null;
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  private tell(): void {
    for (const listener of [...this.listeners]) listener();
  }

  /** Says which rows are in sight. Requests for other places are given up; a hasty reader's wait until he rests. */
  want(first: number, last: number, hasty = false): void {
    if (this.error !== null && first === this.wanted[0] && last === this.wanted[1]) return; // not again of its own accord
    this.error = null;
    this.wanted = [first, last];
    for (const [page, flight] of this.flights) {
      if ((page + 1) * PAGE <= first || page * PAGE > last) {
        flight.abort();
        this.flights.delete(page);
      }
    }
    clearTimeout(this.timer);
    if (hasty) this.timer = setTimeout(() => this.fill(), SETTLE_MS);
    else this.fill();
  }

  private fill(): void {
    const [first, last] = this.wanted;
    const end = Math.min(last, (this.total ?? Infinity) - 1);
    for (let page = Math.floor(first / PAGE); page * PAGE <= end; page++) {
      if (this.flights.has(page)) continue;
      let missing = this.stale.has(page) || this.total === null;
      for (let i = Math.max(first, page * PAGE); !missing && i <= Math.min(end, page * PAGE + PAGE - 1); i++) {
        missing = !this.rows.has(i);
      }
      if (missing) void this.fetch(page);
    }
  }

  private async fetch(page: number): Promise<void> {
    const flight = new AbortController();
    this.flights.set(page, flight);
    try {
      const answer = await api.rows(this.query, page * PAGE, PAGE, flight.signal);
      if (flight.signal.aborted) return;
      this.take(page * PAGE, answer.rows);
      this.total = answer.total;
      this.error = null;
      this.stale.delete(page);
    } catch (error) {
      if (stopped(error) || flight.signal.aborted) return;
      this.error = words(error);
    } finally {
      if (this.flights.get(page) === flight) this.flights.delete(page);
    }
    this.tell();
  }

  private take(offset: number, rows: Row[]): void {
    rows.forEach((row, i) => this.rows.set(offset + i, row));
    if (this.rows.size <= BOUND) return;
    const middle = (this.wanted[0] + this.wanted[1]) / 2;
    const far = [...this.rows.keys()].sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle));
    for (const index of far.slice(0, this.rows.size - BOUND * 0.75)) this.rows.delete(index);
  }

  /** The rows from one index to another, asked for where they are not at hand. */
  async range(first: number, last: number): Promise<Row[]> {
    for (let i = first; i <= last; i++) {
      if (this.rows.has(i)) continue;
      const answer = await api.rows(this.query, i, Math.min(500, last - i + 1));
      if (!answer.rows.length) break;
      this.take(i, answer.rows);
    }
    const found: Row[] = [];
    for (let i = first; i <= last; i++) {
      const row = this.rows.get(i);
      if (row) found.push(row);
    }
    return found;
  }

  /** Notes a decision. Rows that the view no longer holds go out of it at once; says how many did. */
  decided(ids: Set<number>, decision: Decision, label: string | null): number {
    const filter = new URLSearchParams(this.query).getAll("decision");
    const leaves = filter.length > 0 && !filter.includes(decision);
    const rows = new Map<number, Row>();
    let gone = 0;
    for (const [index, row] of [...this.rows].sort((a, b) => a[0] - b[0])) {
      const mine = ids.has(row.id);
      if (mine && leaves) gone++;
      else rows.set(index - gone, mine ? { ...row, decision, decided_label: label } : row);
    }
    this.rows = rows;
    if (gone) {
      if (this.total !== null) this.total -= gone;
      this.halt();
    }
    if (gone && gone < ids.size)
      this.reload(); // rows between those at hand went too
    else this.fill();
    this.tell();
    return gone;
  }

  /** Asks for all rows again, and shows the old ones until the new ones come. */
  reload(): void {
    this.halt();
    this.error = null;
    const [first, last] = this.wanted;
    for (const index of this.rows.keys()) if (index < first || index > last) this.rows.delete(index);
    for (let page = Math.floor(first / PAGE); page * PAGE <= last; page++) this.stale.add(page);
    this.fill();
  }

  private halt(): void {
    for (const flight of this.flights.values()) flight.abort();
    this.flights.clear();
  }

  close(): void {
    clearTimeout(this.timer);
    this.halt();
  }
}

let current = new Rows("");

/** The rows of a view; only those of the latest view are kept. */
export function rowsOf(query: string): Rows {
  if (current.query !== query) {
    current.close();
    current = new Rows(query);
  }
  return current;
}

export const currentRows = () => current;

/** Draws a component again whenever its rows change. Heard before paint: a child may ask for rows at its first redraw,
 * and they may be there before the effects of its parent have run. Returns what draws it again at other times. */
export function useRedraw(rows: Rows): () => void {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  useLayoutEffect(() => rows.listen(() => redraw(0)), [rows]);
  return () => redraw(0);
}
