// What the whole app shares: small stores, and the place that the address of the page names.

import { useEffect, useState } from "preact/hooks";
import type { Lake } from "./api";
import { ApiError, stopped } from "./api";

/** A value that components can follow. */
export class Store<T> {
  private listeners = new Set<() => void>();
  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }
  set(value: T): void {
    if (value === this.current) return;
    this.current = value;
    for (const listener of [...this.listeners]) listener();
  }
  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [value, setValue] = useState(store.value);
  useEffect(() => {
    setValue(() => store.value);
    return store.listen(() => setValue(() => store.value));
  }, [store]);
  return value;
}

/** A choice of this browser, kept from one visit to the next. */
export function kept<T extends string | number | boolean>(name: string, first: T): Store<T> {
  const key = `imagesieve.${name}`;
  let value = first;
  try {
    const saved: unknown = JSON.parse(localStorage.getItem(key) ?? "null");
    if (typeof saved === typeof first) value = saved as T;
  } catch {
    // A browser without storage forgets the choice, and that is all.
  }
  const store = new Store(value);
  store.listen(() => {
    try {
      localStorage.setItem(key, JSON.stringify(store.value));
    } catch {
      // As above.
    }
  });
  return store;
}

export interface Loaded<T> {
  value: T | null;
  error: string | null;
  busy: boolean;
}

/** Asks the server whenever `deps` change; a request that is no longer wanted is given up. Keeps the last answer meanwhile. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, deps: unknown[], delay = 0): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ value: null, error: null, busy: true });
  useEffect(() => {
    const control = new AbortController();
    setState((old) => ({ ...old, busy: true }));
    const timer = setTimeout(() => {
      load(control.signal).then(
        (value) => control.signal.aborted || setState({ value, error: null, busy: false }),
        (error: unknown) => {
          if (!control.signal.aborted && !stopped(error)) setState({ value: null, error: words(error), busy: false });
        },
      );
    }, delay);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, deps);
  return state;
}

export const words = (error: unknown) =>
  error instanceof ApiError ? error.message : error instanceof Error ? error.message : String(error);

export const lake = new Store<Lake | null>(null);

/** Goes up with every decision and undo, so that counts are asked for again. */
export const changes = new Store(0);

export const PAGES = {
  gallery: "Gallery",
  map: "Map",
  copies: "Copies",
  labels: "Labels",
  progress: "Progress",
  runs: "Runs",
} as const;
export type Page = keyof typeof PAGES;

export const FACETS = [
  "issue",
  "label",
  "suggested",
  "split",
  "source",
  "run",
  "concept",
  "topic",
  "kind",
  "relation",
  "medium",
  "format",
  "suggestion",
  "decision",
];
const SEARCHES = ["like", "picture", "words"];
const FILTERS = [...FACETS, "score", "text", "lasso", "cluster", "folder", "new", "gone", ...SEARCHES];

export type Filters = Record<string, string[]>;

/** Where the reader is. All of it stands in the address, so that a reload or a sent link shows the same. */
export interface Place {
  page: Page;
  filters: Filters;
  sort: string;
  at: number; // the first row in sight, or the row of the open picture
  open: number | null;
  beside: number | null; // the picture that is compared with the open one
  since: string; // the runs that are compared; "" for the last but one, and for what is shown
  until: string;
}

function read(): Place {
  const params = new URLSearchParams(location.search);
  const number = (name: string) => (/^\d{1,15}$/.test(params.get(name) ?? "") ? Number(params.get(name)) : null);
  const page = params.get("page") ?? "";
  const filters: Filters = {};
  for (const name of FILTERS) {
    const values = params.getAll(name);
    if (values.length) filters[name] = values;
  }
  return {
    page: Object.hasOwn(PAGES, page) ? (page as Page) : "gallery",
    filters,
    sort: params.get("sort") ?? "",
    at: number("at") ?? 0,
    open: number("open"),
    beside: number("beside"),
    since: params.get("since") ?? "",
    until: params.get("until") ?? "",
  };
}

/** The view as query parameters, in one order, so that equal views are equal strings. */
export function queryOf(filters: Filters, sort = ""): string {
  const params = new URLSearchParams();
  for (const name of FILTERS) for (const value of filters[name] ?? []) params.append(name, value);
  if (sort) params.append("sort", sort);
  return params.toString();
}

function addressOf(to: Place): string {
  const params = new URLSearchParams(queryOf(to.filters, to.sort));
  if (to.page !== "gallery") params.set("page", to.page);
  if (to.at) params.set("at", String(to.at));
  if (to.open !== null) params.set("open", String(to.open));
  if (to.beside !== null) params.set("beside", String(to.beside));
  for (const name of ["since", "until"] as const) if (to.page === "runs" && to[name]) params.set(name, to[name]);
  const query = params.toString();
  return location.pathname + (query ? `?${query}` : "");
}

export const place = new Store<Place>(read());
let leaving = false; // until the browser has gone back, so that a second Esc does not go back twice
addEventListener("popstate", () => {
  leaving = false;
  place.set(read());
});

export function go(change: Partial<Place>, replace = false): void {
  const to = { ...place.value, ...change };
  const address = addressOf(to);
  if (replace) history.replaceState(history.state, "", address);
  else if (address !== location.pathname + location.search) history.pushState({ within: true }, "", address);
  place.set(to);
}

/** Leaves an overlay: back to where it was opened, or, where a link led straight to it, to the same place without it. */
export function leave(change: Partial<Place>): void {
  if (leaving) return;
  leaving = !!(history.state as { within?: boolean } | null)?.within;
  if (leaving) history.back();
  else go(change, true);
}

/** Sets filters; an empty list takes one away. The reader starts again at the top. */
export function filter(change: Filters, more: Partial<Place> = {}, replace = false): void {
  const filters = { ...place.value.filters, ...change };
  const search = SEARCHES.find((name) => change[name]?.length);
  if (search) for (const other of SEARCHES) if (other !== search) delete filters[other];
  for (const name of Object.keys(filters)) if (!filters[name]?.length) delete filters[name];
  go({ filters, at: 0, open: null, beside: null, ...more }, replace);
}

export function toggle(name: string, value: string): void {
  const old = place.value.filters[name] ?? [];
  filter({ [name]: old.includes(value) ? old.filter((v) => v !== value) : [...old, value] });
}
