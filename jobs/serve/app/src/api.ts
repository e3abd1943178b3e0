// What the server says: the types of its answers, and the calls.

export type Decision = "keep" | "remove" | "relabel" | "skip";

export interface Row {
  id: number;
  name: string;
  uri: string;
  label: string | null;
  split: string | null;
  issues: string[];
  suggestion: string | null;
  suggested_label: string | null;
  width: number | null;
  height: number | null;
  cluster: number | null;
  cluster_size: number | null;
  is_keeper: boolean | null;
  relation: string | null;
  decision: Decision | null;
  decided_label: string | null;
  score: number | null;
  readable: boolean;
}

export interface Finding {
  issue: string;
  title: string;
  score: number | null;
  suggestion: string | null;
  suggested_label: string | null;
  detail: string | null;
  cosine: number | null;
  evidence: Row | null;
}

export interface Review {
  id: string;
  decision: string;
  label: string | null;
  note: string | null;
  by: string;
  at: string;
  undone: boolean;
}

export interface Picture extends Row {
  format: string | null;
  medium: string | null;
  size_bytes: number | null;
  modified_at: string | null;
  source: string | null;
  damage: string | null;
  failure: { error: string; detail: string } | null;
  properties: Record<string, number | null>;
  scores: Record<string, number | null>;
  concepts: [string, number][];
  topic: number | null;
  findings: Finding[];
  neighbours: (Row & { cosine: number })[];
  cluster_members: Row[];
  history: Review[];
}

export interface Score {
  name: string;
  title: string;
  low: number;
  high: number;
  bins: number[];
}

export interface Run {
  job: string;
  ended_at: string | null;
  seconds: number | null;
  status: string;
  counts: Record<string, number>;
  notes: string[];
}

export interface Named {
  name: string;
  title: string;
}

/** What finds like pictures. recall: the share of the ten nearest that was found of `queries` pictures. */
export interface Search {
  like: boolean;
  words: boolean;
  index?: "lake" | "lake and newer" | "own";
  indexed?: number;
  note?: string | null;
  recall?: { at_10: number; low: number; high: number; queries: number; images: number } | null;
}

export interface Lake {
  uri: string;
  name: string;
  images: number;
  embedded: number;
  mapped: number;
  version: string;
  read_only: boolean;
  user: string;
  ready: boolean;
  progress: number;
  fault?: string | null; // why the gallery cannot be made ready
  search: Search;
  facets: Named[];
  scores: Score[];
  ratings: Named[];
  sorts: Named[];
  issues: Record<string, { title: string; text: string; theme: string }>;
  relations: Record<string, string>;
  labels: string[];
  runs: Run[];
}

export type Counted = [string, number];

export interface Cluster {
  cluster: number;
  size: number;
  kind: string;
  members: Row[];
}

export interface Pair {
  label: string;
  suggested: string;
  images: number;
  decided: number;
}

export interface Batch {
  batch: string;
  decision: string;
  count: number;
  note: string | null;
  by: string;
  at: string;
  undone: boolean;
}

/** A folder of which somebody has said that all in it is fine. */
export interface SafeFolder {
  folder: string;
  by: string;
  at: string;
  kept: number;
  undecided: number; // that came later, or were left open
}

/** What a folder holds of the pictures of a view. */
export interface Level {
  folder: string;
  root: string;
  images: number;
  here: number;
  folders: Counted[];
  more: number;
  uncounted: boolean;
}

/** What a run has left. */
export interface State {
  run: string;
  ended_at: string;
  shown: boolean;
  there: boolean;
}

export interface Change {
  issue: string;
  title: string;
  came: number;
  went: number;
  stayed: number;
}

/** What accepting suggestions does, or would do. The last three are left alone. */
export interface Accepted {
  batch: string | null;
  remove: number;
  relabel: number;
  decided: number;
  review: number;
  others: number;
}

export type Chosen = { ids: number[] } | { view: string };

export interface Agreement {
  issue: string;
  title: string;
  right: number;
  wrong: number;
  precision: number;
  low: number;
  high: number;
  rest: number;
  offer: "remove" | "relabel" | null;
  alike: number;
  alike_low: number;
  alike_high: number;
}

export interface Reviews {
  decided: number;
  by: Record<string, number>;
  issues: Agreement[];
  recent: Batch[];
  folders: SafeFolder[];
}

/** names: of the codes 1, 2, … codes: of each row. */
/** What the map is coloured by: the name of a facet, score:NAME or rating:NAME. */
export type By = string;

/** codes: of each row. names: of a facet. low, high: of a score, whose codes go from 1 to SHADES. */
export interface Colours {
  names: string[];
  codes: Uint8Array;
  scale: { low: number; high: number } | null;
}

export const SHADES = 254;

export interface Judgement {
  ids?: number[];
  view?: string;
  decision: Decision | "note";
  label?: string;
  note?: string;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const call = <T>(path: string, init: RequestInit) =>
  answered(path, init).then((answer) => answer.json() as Promise<T>);

async function answered(path: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (stopped(error)) throw error;
    throw new ApiError(0, "The server does not answer. Is imagesieve serve still running?");
  }
  if (answer.ok) return answer;
  const body: unknown = await answer.json().catch(() => null);
  const detail = body && typeof body === "object" && "detail" in body ? String(body.detail) : answer.statusText;
  throw new ApiError(
    answer.status,
    answer.status === 401 ? "This page needs the address with the token that imagesieve serve printed." : detail,
  );
}

/** Whether an error only says that a request was given up. */
export function stopped(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

const data = (path: string, signal?: AbortSignal) =>
  answered(`api/${path}`, { signal: signal ?? null }).then((answer) => answer.arrayBuffer());

const get = <T>(path: string, signal?: AbortSignal) => call<T>(`api/${path}`, { signal: signal ?? null });

const post = <T>(path: string, body: unknown) =>
  call<T>(`api/${path}`, {
    method: "POST",
    headers: { "X-Imagesieve": "1", "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/** A query with more parameters after it. */
function joined(query: string, more: Record<string, string | number>): string {
  const params = new URLSearchParams(query);
  for (const [name, value] of Object.entries(more)) params.append(name, String(value));
  return params.toString();
}

export const api = {
  lake: (signal?: AbortSignal) => get<Lake>("lake", signal),
  rows: (query: string, offset: number, limit: number, signal?: AbortSignal) =>
    get<{ total: number; offset: number; rows: Row[] }>(`rows?${joined(query, { offset, limit })}`, signal),
  facets: (query: string, signal?: AbortSignal) =>
    get<{ total: number; facets: Record<string, Counted[]> }>(`facets?${query}`, signal),
  facet: (query: string, name: string, q: string, signal?: AbortSignal) =>
    get<{ values: Counted[] }>(`facet?${joined(query, { name, q })}`, signal),
  step: (query: string, position: number, signal?: AbortSignal) =>
    get<{ position: number; total: number; id: number | null }>(`step?${joined(query, { position })}`, signal),
  place: (query: string, id: number, signal?: AbortSignal) =>
    get<{ position: number; total: number }>(`step?${joined(query, { id })}`, signal),
  folders: (query: string, q: string, signal?: AbortSignal) => get<Level>(`folders?${joined(query, { q })}`, signal),
  states: (signal?: AbortSignal) => get<{ states: State[]; unknown: string }>("states", signal),
  changes: (since: string, until: string, signal?: AbortSignal) =>
    get<{ issues: Change[] }>(`changes?${joined("", { since, until })}`, signal),
  image: (id: number, signal?: AbortSignal) => get<Picture>(`image/${id}`, signal),
  clusters: (query: string, offset: number, limit: number, signal?: AbortSignal) =>
    get<{ total: number; clusters: Cluster[] }>(`clusters?${joined(query, { offset, limit })}`, signal),
  confusions: (signal?: AbortSignal) => get<{ pairs: Pair[] }>("confusions", signal),
  map: async (signal?: AbortSignal) => new Uint16Array(await data("map", signal)),
  mapColours: async (by: By, signal?: AbortSignal): Promise<Colours> => {
    const [kind, name] = by.includes(":") ? [by.slice(0, by.indexOf(":")), by.slice(by.indexOf(":") + 1)] : ["facet", by];
    const found = await data(`map/colours?${joined("", { [kind]: name })}`, signal);
    const length = new DataView(found).getUint32(0, true);
    const told = JSON.parse(new TextDecoder().decode(new Uint8Array(found, 4, length))) as {
      names?: Counted[];
      low?: number;
      high?: number;
    };
    return {
      names: (told.names ?? []).map(([each]) => each),
      codes: new Uint8Array(found, 4 + length),
      scale: told.low === undefined || told.high === undefined ? null : { low: told.low, high: told.high },
    };
  },
  mapView: async (query: string, signal?: AbortSignal) => new Uint8Array(await data(`map/view?${query}`, signal)),
  mapRow: (row: number, signal?: AbortSignal) => get<Row>(`map/row?${joined("", { row })}`, signal),
  reviews: (signal?: AbortSignal) => get<Reviews>("reviews", signal),
  decide: (judgement: Judgement) => post<{ batch: string; count: number }>("decide", judgement),
  accept: (chosen: Chosen, only: string[], count_only: boolean) =>
    post<Accepted>("accept", { ...chosen, only, count_only }),
  keepFolder: (folder: string, count_only: boolean) =>
    post<{ batch: string | null; count: number }>("keep-folder", { folder, count_only }),
  undo: (batch?: string) => post<{ count: number }>("undo", batch ? { batch } : {}),
  upload: (file: Blob) =>
    call<{ key: string }>("api/picture", {
      method: "POST",
      headers: { "X-Imagesieve": "1", "Content-Type": "application/octet-stream" },
      body: file,
    }),
};

export const thumbUrl = (id: number) => `api/thumb/${id}`;
export const pictureUrl = (id: number) => `api/picture/${id}`;
