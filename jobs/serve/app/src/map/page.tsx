// The page of the map: what it is coloured by, what its colours mean, and what can be done with a lasso.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Named, Row } from "../api";
import { SHADES, api, stopped } from "../api";
import { act, count, say } from "../decide";
import { common, useKeys } from "../dialogs";
import { Filters, drawer, says } from "../filters";
import { Chips } from "../gallery";
import { DecisionButtons, Icon, KEY_OF, Thumb, baseName, capital, short, whole } from "../parts";
import { changes, filter, go, kept, lake, place, queryOf, toggle, useLoad, useStore, words } from "../state";
import { css, shade } from "./colours";
import { NOWHERE } from "./points";
import type { Pointed, SurfaceControl } from "./surface";
import { Surface, colourOf } from "./surface";

const PAN = 80; // pixels that an arrow key moves
const OTHER_CODE = 255;
const chosenFacet = kept<string>("map-colour", "");

export function MapPage({ onHelp }: { onHelp: () => void }) {
  const info = useStore(lake);
  if (!info?.mapped)
    return (
      <main class="page" id="main">
        <header class="page-head">
          <h1>Map</h1>
        </header>
        <div class="empty">
          <p>
            This lake has no map yet: <code>imagesieve map --lake {info?.uri}</code> makes it.
          </p>
        </div>
      </main>
    );
  return <Mapped onHelp={onHelp} />;
}

function Mapped({ onHelp }: { onHelp: () => void }) {
  const here = useStore(place);
  const info = useStore(lake);
  const changed = useStore(changes);
  const saved = useStore(chosenFacet);
  const dark = useDark();
  const [lassoing, setLassoing] = useState(false);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const control = useRef<SurfaceControl | null>(null);
  const query = queryOf(here.filters);
  const lasso = here.filters.lasso?.[0] ?? null;
  const facets = info?.facets ?? [];
  const usual = (info?.labels.length ?? 0) > 1 ? "label" : "topic";
  const choices: [string, Named[]][] = [
    ["What they are", facets],
    ["Scores", (info?.scores ?? []).map(({ name, title: says }) => ({ name: `score:${name}`, title: says }))],
    ["Ratings", (info?.ratings ?? []).map(({ name, title: says }) => ({ name: `rating:${name}`, title: says }))],
  ];
  const known = choices.flatMap(([, each]) => each);
  const by = saved === "none" || known.some(({ name }) => name === saved) ? saved : usual;

  const positions = useLoad((signal) => api.map(signal), []);
  const colours = useLoad(
    (signal) => (by === "none" ? Promise.resolve(null) : api.mapColours(by, signal)),
    [by, by === "decision" ? changed : 0],
  );
  const view = useLoad(
    (signal) => (query ? api.mapView(query, signal) : Promise.resolve(null)),
    [query, query.includes("decision=") ? changed : 0],
    60,
  );
  const codes = by === "none" ? null : (colours.value?.codes ?? null);
  const scale = by === "none" ? null : (colours.value?.scale ?? null);
  const held = useMemo(
    () => (view.value && positions.value ? bitsOf(view.value, positions.value.length / 2) : null),
    [view.value, positions.value],
  );
  const counted = useMemo(() => counts(positions.value, codes, held), [positions.value, codes, held]);
  const total = counted.all;
  const title = by === "none" ? "" : (known.find(({ name }) => name === by)?.title ?? by);
  const error = positions.error ?? colours.error ?? view.error;

  const draw = (text: string | null) => {
    setLassoing(false);
    if (text) filter({ lasso: [text] }, { page: "map" });
    else say("A lasso must go around something.");
  };
  const sight = () => {
    const shown = control.current?.inSight();
    if (shown) draw(shown);
  };
  const open = async (row: number) => {
    try {
      go({ open: (await api.mapRow(row)).id });
    } catch (fault) {
      if (!stopped(fault)) say(words(fault), { bad: true });
    }
  };
  const decide = (decision: Parameters<typeof act>[0]) => lasso && void act(decision, { view: query, count: total });

  useKeys(0, (key) => {
    const steps: Record<string, [number, number]> = {
      ArrowLeft: [PAN, 0],
      ArrowRight: [-PAN, 0],
      ArrowUp: [0, PAN],
      ArrowDown: [0, -PAN],
    };
    const step = steps[key];
    const decision = KEY_OF.get(key);
    if (step) control.current?.pan(...step);
    else if (key === "+" || key === "=") control.current?.zoom(1.4);
    else if (key === "-") control.current?.zoom(1 / 1.4);
    else if (key === "0") control.current?.whole();
    else if (key === "v") sight();
    else if (key === "Escape" && lassoing) setLassoing(false);
    else if (key === "Escape" && lasso) filter({ lasso: [] });
    else if (decision && lasso) decide(decision);
    else return common(key, onHelp);
    return true;
  });

  return (
    <div class="gallery">
      <Filters />
      <main class="stage map" id="main">
        <h1 class="sr">Map</h1>
        <div class="tools">
          <button class="open-drawer" aria-label="Filters" onClick={() => drawer.set(true)}>
            <Icon name="filter" />
          </button>
          <p class="total" role="status">
            {positions.value ? (
              <>
                {short(total)}{" "}
                {query ? (
                  <span class="dim">of {short(info?.mapped ?? 0)}</span>
                ) : (
                  <span class="wide-only">{total === 1 ? "picture" : "pictures"}</span>
                )}
              </>
            ) : error ? (
              ""
            ) : (
              "Looking…"
            )}
          </p>
          <span class="space" />
          <label class="by">
            <span class="dim wide-only">Colour by</span>
            <select
              aria-label="Colour by"
              value={by}
              onChange={(event) => chosenFacet.set(event.currentTarget.value)}
            >
              <option value="none">Nothing</option>
              {choices.map(
                ([group, each]) =>
                  !!each.length && (
                    <optgroup key={group} label={group}>
                      {each.map(({ name, title: says }) => (
                        <option key={name} value={name}>
                          {capital(says)}
                        </option>
                      ))}
                    </optgroup>
                  ),
              )}
            </select>
          </label>
          <button
            aria-pressed={lassoing}
            title="Draw around pictures; or hold Shift and draw"
            onClick={() => setLassoing(!lassoing)}
          >
            <Icon name="lasso" /> Lasso
          </button>
          <button class="wide-only" title="Take all that the screen shows into the lasso (V)" onClick={sight}>
            All in sight
          </button>
        </div>
        <Chips />
        {error && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <div class="plane">
          {positions.value && (
            <Surface
              positions={positions.value}
              codes={codes}
              scaled={scale !== null}
              held={held}
              lasso={lasso}
              lassoing={lassoing}
              dark={dark}
              label={`Map of ${count(info?.mapped ?? 0)}${title ? `, coloured by ${title}` : ""}; the list beside it has the numbers`}
              control={control}
              onPoint={setPointed}
              onClick={(row) => void open(row)}
              onLasso={draw}
            />
          )}
          {codes && scale && <Scale by={by} title={title} {...scale} held={counted.held} dark={dark} />}
          {colours.value && codes && !scale && (
            <Legend
              facet={by}
              title={title}
              names={colours.value.names}
              held={counted.held}
              chosen={here.filters[by] ?? []}
              dark={dark}
            />
          )}
          <div class="zooms" role="group" aria-label="Size of the map">
            <button class="icon" aria-label="Larger" title="Larger (+)" onClick={() => control.current?.zoom(1.6)}>
              <Icon name="plus" />
            </button>
            <button class="icon" aria-label="Smaller" title="Smaller (−)" onClick={() => control.current?.zoom(1 / 1.6)}>
              <Icon name="minus" />
            </button>
            <button class="icon" aria-label="Whole map" title="Whole map (0)" onClick={() => control.current?.whole()}>
              <Icon name="whole" />
            </button>
          </div>
          {pointed && here.open === null && <Card pointed={pointed} />}
          {lasso && (
            <div class="picked" role="region" aria-label="Lasso">
              <b>
                {count(total)} <span class="wide-only">in the lasso</span>
              </b>
              <button class="plain" onClick={() => go({ page: "gallery", at: 0 })}>
                In the gallery
              </button>
              <DecisionButtons onAct={decide} />
              <button class="plain icon" aria-label="Take the lasso away" onClick={() => filter({ lasso: [] })}>
                <Icon name="close" />
              </button>
            </div>
          )}
        </div>
      </main>
    </div>
  );
}

interface LegendProps {
  facet: string;
  title: string;
  names: string[];
  held: number[]; // by code
  chosen: string[];
  dark: boolean;
}

/** What the colours mean, and how many pictures of the filter each has; a click filters by one. */
function Legend({ facet, title, names, held, chosen, dark }: LegendProps) {
  const [open, setOpen] = useState(!matchMedia("(max-width: 760px)").matches);
  const entries = names.map((name, i): [string, number] => [name, i + 1]);
  entries.push(["", 0]);
  return (
    <section class="legend" aria-label={`Colours: ${title}`}>
      <h2>
        <button class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          {capital(title)} <Icon name="right" />
        </button>
      </h2>
      {open && (
        <ul>
          {entries.map(
            ([name, code]) =>
              (code > 0 || !!held[0]) && (
                <li key={code}>
                  <button class="plain" aria-pressed={chosen.includes(name)} onClick={() => toggle(facet, name)}>
                    <span class="swatch" style={{ background: css(colourOf(code, dark)) }} />
                    <span class="what">{says(facet, name)}</span>
                    <span class="n">{whole(held[code] ?? 0)}</span>
                  </button>
                </li>
              ),
          )}
          {!!held[OTHER_CODE] && (
            <li class="others">
              <span class="swatch" style={{ background: css(colourOf(OTHER_CODE, dark)) }} />
              <span class="what">others</span>
              <span class="n">{whole(held[OTHER_CODE])}</span>
            </li>
          )}
        </ul>
      )}
    </section>
  );
}

const BARS = 20; // of a scale

interface ScaleProps {
  by: string;
  title: string;
  low: number;
  high: number;
  held: number[]; // by code
  dark: boolean;
}

/** The colours of a score from its low to its high end, and how many pictures of the filter lie where. */
function Scale({ by, title, low, high, held, dark }: ScaleProps) {
  const [open, setOpen] = useState(!matchMedia("(max-width: 760px)").matches);
  const bars = new Array<number>(BARS).fill(0);
  for (let code = 1; code <= SHADES; code++) bars[Math.floor(((code - 1) * BARS) / SHADES)]! += held[code] ?? 0;
  const most = Math.max(1, ...bars);
  const places = high - low < 0.05 ? 3 : 2;
  const ends = [low, (low + high) / 2, high].map((one) => one.toFixed(places));
  const colours = Array.from({ length: 11 }, (_, i) => css(shade(1 + (i * (SHADES - 1)) / 10, dark)));
  return (
    <section class="legend scale" aria-label={`Colours: ${title}`}>
      <h2>
        <button class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          {capital(title)} <Icon name="right" />
        </button>
      </h2>
      <div
        role="img"
        aria-label={`From ${ends[0]} to ${ends[2]}: ${bars.map((n) => whole(n)).join(", ")} pictures`}
        class="shades"
      >
        {open && (
          <div class="bars">
            {bars.map((n, i) => (
              <span
                key={i}
                style={{
                  height: `${n ? Math.max(4, (100 * n) / most) : 0}%`,
                  background: css(shade(1 + ((i + 0.5) / BARS) * (SHADES - 1), dark)),
                }}
              />
            ))}
          </div>
        )}
        <div class="strip" style={{ background: `linear-gradient(to right, ${colours.join(", ")})` }} />
        <div class="ends">
          {ends.map((one, i) => (
            <span key={i}>{one}</span>
          ))}
        </div>
      </div>
      {open && (
        <ul>
          {!!held[0] && (
            <li class="others">
              <span class="swatch" style={{ background: css(shade(0, dark)) }} />
              <span class="what">none</span>
              <span class="n">{whole(held[0])}</span>
            </li>
          )}
          <li class="note">
            {by.startsWith("rating:") ? "1 is the highest of all here." : "0 is bad, 1 is good."} One in a hundred lies
            beyond each end.
          </li>
        </ul>
      )}
    </section>
  );
}

/** The picture under the pointer. */
function Card({ pointed }: { pointed: Pointed }) {
  const [row, setRow] = useState<Row | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      api.mapRow(pointed.row, stop.signal).then(setRow, () => setRow(null));
    }, 30);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [pointed.row]);
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const card = ref.current;
    const area = card?.parentElement;
    if (!card || !area) return;
    const left = Math.min(Math.max(8, pointed.left + 14), area.clientWidth - card.offsetWidth - 8);
    const above = pointed.top - card.offsetHeight - 14;
    card.style.transform = `translate(${left}px, ${above > 8 ? above : pointed.top + 14}px)`;
  });
  return (
    <div ref={ref} class="card" aria-hidden="true">
      <span class="frame">{row && <Thumb row={row} />}</span>
      <b>{row ? baseName(row.name) : "…"}</b>
      <small>{row?.label ?? ""}</small>
    </div>
  );
}

function useDark(): boolean {
  const asked = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(asked.matches);
  useEffect(() => {
    const listen = () => setDark(asked.matches);
    asked.addEventListener("change", listen);
    return () => asked.removeEventListener("change", listen);
  }, []);
  return dark;
}

/** A byte a row for a bit a row. */
function bitsOf(packed: Uint8Array, rows: number): Uint8Array {
  const held = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) held[row] = (packed[row >> 3]! >> (row & 7)) & 1;
  return held;
}

/** How many pictures on the map the filter holds: all, and by code. */
function counts(positions: Uint16Array | null, codes: Uint8Array | null, held: Uint8Array | null) {
  const found = { all: 0, held: new Array<number>(256).fill(0) };
  for (let row = 0; row < (positions?.length ?? 0) / 2; row++) {
    if (positions![2 * row] === NOWHERE || (held && !held[row])) continue;
    found.all++;
    found.held[codes?.[row] ?? 0]!++;
  }
  return found;
}
