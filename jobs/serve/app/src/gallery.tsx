// The gallery: the filters in force, the grid with its keys, and the bar of what is selected.

import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Row, Search } from "./api";
import type { Target } from "./decide";
import { NOTHING, accept, act, count, focus, say, selection } from "./decide";
import { common, useKeys } from "./dialogs";
import { Filters, drawer } from "./filters";
import type { GridControl } from "./grid";
import { Grid } from "./grid";
import {
  DecisionButtons,
  Empty,
  Fault,
  Icon,
  KEY_OF,
  capital,
  changeWords,
  issueTitle,
  plain,
  runName,
  short,
  tail,
} from "./parts";
import { rowsOf, useRedraw } from "./rows";
import { filter, go, kept, lake, place, queryOf, useStore } from "./state";

const MOST = 5000; // pictures in one range
const size = kept<number>("size", 176);
const fit = kept<string>("fit", "cover");

export function Gallery({ onHelp }: { onHelp: () => void }) {
  const here = useStore(place);
  const query = queryOf(here.filters, here.sort);
  const rows = useMemo(() => rowsOf(query), [query]);
  useRedraw(rows);
  const chosen = useStore(selection);
  const tile = useStore(size);
  const whole = useStore(fit);
  const control = useRef<GridControl | null>(null);
  const anchor = useRef({ index: 0, base: NOTHING.rows });
  useLayoutEffect(() => {
    selection.set(NOTHING);
    focus.set(place.value.at);
    return () => selection.set(NOTHING);
  }, [query]);

  // When the large view closes, the focus goes to the picture that it showed last.
  const opened = here.open !== null;
  const was = useRef(opened);
  useEffect(() => {
    if (was.current && !opened) control.current?.reveal(focus.value, true);
    was.current = opened;
  }, [opened]);

  const total = rows.total ?? 0;
  const select = (picked: Iterable<[number, Row]>) => selection.set({ rows: new Map(picked), view: null });
  const pin = (index: number) => (anchor.current = { index, base: selection.value.rows });

  const flip = (index: number) => {
    const row = rows.get(index);
    if (!row) return;
    const next = new Map(selection.value.view === null ? selection.value.rows : []);
    if (!next.delete(row.id)) next.set(row.id, row);
    select(next);
    pin(index);
  };

  const range = async (to: number) => {
    const { index, base } = anchor.current;
    const [first, last] = [Math.min(index, to), Math.max(index, to)];
    if (last - first >= MOST) return say(`A range holds at most ${count(MOST)}. Ctrl+A selects all.`);
    const found = await rows.range(first, last);
    select([...base, ...found.map((row): [number, Row] => [row.id, row])]);
  };

  const open = (index: number) => {
    const row = rows.get(index);
    if (!row) return;
    focus.set(index);
    go({ open: row.id, at: index });
  };

  const click = (index: number, { tick, shift, mod }: { tick: boolean; shift: boolean; mod: boolean }) => {
    focus.set(index);
    if (shift) void range(index);
    else if (tick || mod || chosen.rows.size) flip(index);
    else open(index);
  };

  const move = (to: number, extend: boolean) => {
    if (!total) return; // a key before the rows are there keeps the place of the address
    const index = Math.max(0, Math.min(total - 1, to));
    focus.set(index);
    control.current?.reveal(index, true);
    if (extend) void range(index);
    else pin(index);
  };

  const target = (): Target => {
    const { view, rows: picked } = selection.value;
    if (view !== null) return { view, count: total };
    const row = rows.get(focus.value);
    return { rows: picked.size ? [...picked.values()] : row ? [row] : [] };
  };
  const suggested = () => {
    const to = target();
    if ("view" in to) return accept({ view: to.view });
    return to.rows.length ? accept({ ids: to.rows.map((row) => row.id) }, { one: to.rows.length === 1 }) : false;
  };
  const decide = async (work: () => boolean | Promise<boolean>) => {
    const took = document.activeElement?.closest("[role=gridcell]");
    if (!(await work())) return;
    selection.set(NOTHING);
    if (took || document.activeElement === document.body)
      control.current?.reveal(Math.min(focus.value, Math.max(0, (rows.total ?? 1) - 1)), true);
  };
  const all = () => total && selection.set({ rows: new Map(), view: query });

  useKeys(0, (key) => {
    const extend = key.startsWith("Shift+");
    const name = extend ? key.slice(6) : key;
    const { columns = 1, rowsInSight = 1 } = control.current ?? {};
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -columns,
      ArrowDown: columns,
      PageUp: -columns * rowsInSight,
      PageDown: columns * rowsInSight,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[name];
    const decision = KEY_OF.get(key);
    if (step !== undefined) {
      const to = focus.value + step;
      if (Math.abs(step) === columns && (to < 0 || to >= total) && columns > 1)
        control.current?.reveal(focus.value, true);
      else move(to, extend);
    } else if (decision) void decide(() => act(decision, target()));
    else if (key === "y") void decide(suggested);
    else if (key === " " || key === "x") flip(focus.value);
    else if (key === "Mod+a") all();
    else if (key === "Enter") open(focus.value);
    else if (key === "Escape" && (chosen.rows.size || chosen.view !== null)) selection.set(NOTHING);
    else return common(key, onHelp);
    return true;
  });

  const rest = (index: number) => {
    if (place.value.page === "gallery" && place.value.open === null && place.value.at !== index)
      go({ at: index }, true);
  };
  const info = lake.value;
  const hides = here.filters.decision?.length === 1 && here.filters.decision[0] === "";
  const searches = ["like", "picture", "words"].some((name) => here.filters[name]);
  return (
    <div class="gallery">
      <Filters />
      <main class="stage" id="main">
        <h1 class="sr">Gallery</h1>
        <div class="tools">
          <button class="open-drawer" aria-label="Filters" onClick={() => drawer.set(true)}>
            <Icon name="filter" />
          </button>
          <p class="total" role="status">
            {rows.total === null ? (
              rows.error ? (
                ""
              ) : (
                "Looking…"
              )
            ) : (
              <>
                {short(total)} <span class="wide-only">{total === 1 ? "picture" : "pictures"}</span>
              </>
            )}
          </p>
          <span class="space" />
          <label class="switch wide-only">
            <input
              type="checkbox"
              role="switch"
              checked={hides}
              onChange={() => filter({ decision: hides ? [] : [""] })}
            />{" "}
            Hide decided
          </label>
          {(here.filters.like || here.filters.picture) && info && <Found search={info.search} />}
          {!searches && <Sort sort={here.sort} sorts={info?.sorts ?? []} />}
          <label class="sizes" title="Size of the tiles">
            <span class="sr">Size of the tiles</span>
            <input
              type="range"
              min={96}
              max={320}
              step={8}
              value={tile}
              onInput={(event) => size.set(Number(event.currentTarget.value))}
            />
          </label>
          <button
            class="icon"
            aria-label="Show whole pictures"
            title="Show whole pictures"
            aria-pressed={whole === "contain"}
            onClick={() => fit.set(whole === "contain" ? "cover" : "contain")}
          >
            <Icon name="whole" />
          </button>
          {!info?.read_only && (
            <button class="all" onClick={all} title="Select all that the filter holds (Ctrl+A)">
              Select all
            </button>
          )}
        </div>
        <Chips />
        <Fault error={rows.error}>
          <button onClick={() => rows.reload()}>Try again</button>
        </Fault>
        {rows.total === 0 && (
          <Empty>
            <p>No pictures match.</p>
            <button onClick={clear}>Clear all filters</button>
          </Empty>
        )}
        <Grid
          key={query}
          rows={rows}
          size={tile}
          fit={whole}
          start={here.at}
          onRest={rest}
          onClick={click}
          control={control}
        />
        {(chosen.view !== null || chosen.rows.size > 0) && (
          <div class="picked" role="region" aria-label="Selection">
            <b role="status">
              {chosen.view !== null ? `All ${count(total)}` : `${count(chosen.rows.size)}`}{" "}
              <span class="wide-only">selected</span>
            </b>
            {chosen.view === null && chosen.rows.size < total && (
              <button class="plain" onClick={all}>
                All {short(total)}
              </button>
            )}
            <DecisionButtons onAct={(decision) => void decide(() => act(decision, target()))} />
            {!info?.read_only && (
              <button class="suggested" aria-keyshortcuts="Y" onClick={() => void decide(suggested)}>
                As suggested <kbd>Y</kbd>
              </button>
            )}
            <button class="plain icon" aria-label="Select nothing" onClick={() => selection.set(NOTHING)}>
              <Icon name="close" />
            </button>
          </div>
        )}
      </main>
    </div>
  );
}

function Sort({ sort, sorts }: { sort: string; sorts: { name: string; title: string }[] }) {
  const down = sort.startsWith("-");
  const name = sort.replace(/^-/, "") || "image_id";
  const set = (to: string, descending: boolean) =>
    go({ sort: to === "image_id" && !descending ? "" : (descending ? "-" : "") + to, at: 0 });
  return (
    <span class="sort">
      <label>
        <span class="sr">Order</span>
        <select value={name} onChange={(event) => set(event.currentTarget.value, down)}>
          {sorts.map((one) => (
            <option key={one.name} value={one.name}>
              {capital(one.title)}
            </option>
          ))}
        </select>
      </label>
      <button
        class="icon"
        aria-label={down ? "Largest first" : "Smallest first"}
        title={down ? "Largest first" : "Smallest first"}
        onClick={() => set(name, !down)}
      >
        <Icon name={down ? "down" : "up"} />
      </button>
    </span>
  );
}

const clear = () => go({ filters: {}, at: 0, open: null });

/** How much a search finds of what is nearest, as it was measured. */
function Found({ search }: { search: Search }) {
  const { recall, note } = search;
  if (!recall) return null;
  const percent = (share: number) => `${Math.round(1000 * share) / 10} %`;
  const measured = `Measured on ${recall.queries} pictures of ${recall.images.toLocaleString("en")} when the index was made: ${percent(recall.low)} to ${percent(recall.high)}.`;
  return (
    <p class="dim wide-only recall" title={note ? `${measured} ${capital(note)}.` : measured}>
      finds {percent(recall.at_10)} of the ten nearest
    </p>
  );
}

/** The filters in force; each can be taken away. */
export function Chips() {
  const { filters } = useStore(place);
  const info = lake.value;
  const titles: Record<string, string> = {
    text: "Name holds",
    cluster: "Copies of group",
    lasso: "Lasso",
    like: "More like",
    picture: "More like",
    words: "Search",
    folder: "Folder",
    new: "New findings",
    gone: "Gone findings",
  };
  for (const { name, title } of info?.facets ?? []) titles[name] = title;
  const says = (name: string, value: string) => {
    if (name === "issue") return value ? issueTitle(value) : "none";
    if (name === "decision" && !value) return "undecided";
    if (name === "relation") return info?.relations[value] ?? plain(value);
    if (name === "like") return `picture ${value}`;
    if (name === "picture") return "your picture";
    if (name === "folder") return tail(value);
    if (name === "run" && value) return runName(value);
    if (name === "new" || name === "gone") return changeWords(value);
    if (name === "cluster") return value;
    if (name === "lasso") return "drawn on the map";
    return value === "" ? "none" : value;
  };
  const chips = Object.entries(filters).flatMap(([name, values]) =>
    values.map((value) => {
      let title = titles[name] ?? name;
      let text = says(name, value);
      if (name === "score") {
        const [score = "", low, high] = value.split(":");
        title = info?.scores.find((one) => one.name === score)?.title ?? plain(score);
        const [from, to] = [short(Number(low)), short(Number(high))];
        text = low && high ? `${from} to ${to}` : low ? `at least ${from}` : `at most ${to}`;
      }
      return (
        <li key={`${name}=${value}`} class="chip">
          <span title={value}>
            <span class="dim">{capital(title)}:</span> {text}
          </span>
          <button
            class="plain icon"
            aria-label={`Take away ${title}: ${text}`}
            onClick={() => filter({ [name]: values.filter((one) => one !== value) })}
          >
            <Icon name="close" />
          </button>
        </li>
      );
    }),
  );
  if (!chips.length) return null;
  return (
    <ul class="chips" aria-label="Filters in force">
      {chips}
      <li>
        <button class="plain" onClick={clear}>
          Clear all
        </button>
      </li>
    </ul>
  );
}
