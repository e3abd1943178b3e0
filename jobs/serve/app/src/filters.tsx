// The side panel: facets with counts, and ranges of scores. On a phone it is a drawer.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Counted, Named, Score } from "./api";
import { api } from "./api";
import { Folders } from "./folders";
import { Fault, Icon, capital, issueTitle, markOf, plain, runName, short, tail, whole } from "./parts";
import { Store, changes, filter, lake, place, queryOf, toggle, useLoad, useStore } from "./state";

const FEW = 6; // values that a facet shows at first
const OPEN = new Set(["issue", "suggestion", "decision", "label", "split", "source"]); // facets that are open at first

export const drawer = new Store(false);

export function Filters() {
  const here = useStore(place);
  const changed = useStore(changes);
  const out = useStore(drawer);
  const info = useStore(lake);
  const query = queryOf(here.filters);
  const { value, busy, error } = useLoad((signal) => api.facets(query, signal), [query, changed], 60);
  useEffect(() => {
    if (!out) return undefined;
    const close = (event: KeyboardEvent) => event.key === "Escape" && drawer.set(false);
    addEventListener("keydown", close);
    return () => removeEventListener("keydown", close);
  }, [out]);
  return (
    <>
      {out && <div class="shade" onClick={() => drawer.set(false)} />}
      <aside class={out ? "side out" : "side"} aria-label="Filters" aria-busy={busy}>
        <div class="drawer-head">
          <h2>Filters</h2>
          <button class="plain icon" aria-label="Close the filters" onClick={() => drawer.set(false)}>
            <Icon name="close" />
          </button>
        </div>
        <Fault error={error} />
        {info?.facets.map((facet) => [
          <Facet
            key={facet.name}
            facet={facet}
            query={query}
            chosen={here.filters[facet.name] ?? []}
            values={value?.facets[facet.name] ?? null}
          />,
          facet.name === "source" && <Folders key="folders" query={query} chosen={here.filters.folder?.[0] ?? ""} />,
        ])}
        {!!info?.scores.length && <Scores scores={info.scores} chosen={here.filters.score ?? []} />}
      </aside>
    </>
  );
}

export function says(facet: string, value: string) {
  if (facet === "decision" && value === "") return "undecided";
  if (value === "") return <i>none</i>;
  if (facet === "issue") return issueTitle(value);
  if (facet === "run") return runName(value);
  if (facet === "source") return tail(value);
  if (facet === "relation") return lake.value?.relations[value] ?? plain(value);
  return value;
}

function Facet({
  facet,
  query,
  chosen,
  values,
}: {
  facet: Named;
  query: string;
  chosen: string[];
  values: Counted[] | null;
}) {
  const [open, setOpen] = useState(OPEN.has(facet.name) || chosen.length > 0);
  const [more, setMore] = useState(false);
  const [text, setText] = useState("");
  const found = useLoad(
    (signal) => (more && text.trim() ? api.facet(query, facet.name, text.trim(), signal) : Promise.resolve(null)),
    [more, text, query],
    text ? 150 : 0,
  );
  if (values && !values.length && !chosen.length) return null;
  if (values?.length === 1 && values[0]?.[0] === "" && !chosen.length) return null; // there is nothing to choose

  const told = found.value?.values ?? values ?? [];
  const all = [...told.filter(([value]) => value !== ""), ...told.filter(([value]) => value === "")]; // none last
  let listed = more ? all : all.slice(0, FEW);
  const absent = text.trim() && more ? [] : chosen.filter((value) => !listed.some(([other]) => other === value));
  listed = [
    ...listed,
    ...absent.map((value): Counted => [value, all.find(([other]) => other === value)?.[1] ?? (values ? 0 : -1)]),
  ];
  const most = Math.max(1, ...all.map(([value, n]) => (value === "" ? 0 : n)));
  return (
    <section class="facet">
      <h3>
        <button class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          {capital(facet.title)}
          {chosen.length > 0 && <span class="dot">{chosen.length}</span>}
          <Icon name="right" />
        </button>
      </h3>
      {open && (
        <div class="values">
          {more && (
            <input
              type="search"
              class="find"
              aria-label={`Find in ${facet.title}`}
              placeholder="Find…"
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          )}
          <div class={more ? "scroll" : ""} role="group" aria-label={facet.title}>
            {listed.map(([value, n]) => (
              <label key={value} class="value" title={facet.name === "issue" ? lake.value?.issues[value]?.text : value}>
                <input type="checkbox" checked={chosen.includes(value)} onChange={() => toggle(facet.name, value)} />
                {facet.name === "issue" && value && (
                  <span class={`badge t-${markOf(value)[1]}`} aria-hidden="true">
                    {markOf(value)[0]}
                  </span>
                )}
                <span class="what">{says(facet.name, value)}</span>
                <span class="n">{n < 0 ? "…" : whole(n)}</span>
                <span class="share" style={{ transform: `scaleX(${Math.min(1, Math.max(0, n) / most)})` }} />
              </label>
            ))}
            {!listed.length && <p class="dim">{values ? "Nothing found." : "…"}</p>}
          </div>
          {(more || all.length > FEW) && (
            <button
              class="plain more"
              onClick={() => {
                setMore(!more);
                setText("");
              }}
            >
              {more ? "less" : "more…"}
            </button>
          )}
        </div>
      )}
    </section>
  );
}

function Scores({ scores, chosen }: { scores: Score[]; chosen: string[] }) {
  const [open, setOpen] = useState(chosen.length > 0);
  return (
    <section class="facet">
      <h3>
        <button class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>
          Scores{chosen.length > 0 && <span class="dot">{chosen.length}</span>}
          <Icon name="right" />
        </button>
      </h3>
      {open && scores.map((score) => <Range key={score.name} score={score} chosen={chosen} />)}
    </section>
  );
}

const STEPS = 200;
type Ends = [number, number];

/** A histogram with two handles. */
function Range({ score, chosen }: { score: Score; chosen: string[] }) {
  const mine = chosen.find((one) => one.startsWith(`${score.name}:`));
  const [, low = "", high = ""] = mine?.split(":") ?? [];
  const span = score.high - score.low || 1;
  const step = (text: string, otherwise: number) =>
    text === "" ? otherwise : Math.round(((Number(text) - score.low) / span) * STEPS) || 0;
  const [ends, setEnds] = useState<Ends>([0, STEPS]);
  const timer = useRef(0);
  useEffect(() => setEnds([step(low, 0), step(high, STEPS)]), [mine]);

  const [from, to] = ends;
  const track = useRef<HTMLDivElement>(null);
  const value = (at: number) => Number((score.low + (at / STEPS) * span).toPrecision(5));
  const set = ([first, last]: Ends) => {
    const others = chosen.filter((one) => one !== mine);
    const all = first <= 0 && last >= STEPS;
    filter({
      score: all
        ? others
        : [...others, `${score.name}:${first > 0 ? value(first) : ""}:${last < STEPS ? value(last) : ""}`],
    });
  };
  const moved = (which: 0 | 1, at: number): Ends =>
    which ? [from, Math.max(from, Math.min(STEPS, at))] : [Math.min(to, Math.max(0, at)), to];
  const drag = (which: 0 | 1) => (event: PointerEvent) => {
    const area = track.current?.getBoundingClientRect();
    if (area && (event.currentTarget as Element).hasPointerCapture(event.pointerId)) {
      setEnds(moved(which, Math.round(((event.clientX - area.left) / area.width) * STEPS)));
    }
  };
  const key = (which: 0 | 1) => (event: KeyboardEvent) => {
    const by = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -20,
      PageUp: 20,
      Home: -STEPS,
      End: STEPS,
    }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = moved(which, ends[which] + by);
    setEnds(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set(next), 300);
  };
  const most = Math.max(1, ...score.bins);
  const handle = (which: 0 | 1) => (
    <span
      role="slider"
      tabIndex={0}
      class="handle"
      style={{ left: `${(ends[which] / STEPS) * 100}%` }}
      aria-label={`${score.title}, ${which ? "at most" : "at least"}`}
      aria-valuemin={score.low}
      aria-valuemax={score.high}
      aria-valuenow={value(ends[which])}
      aria-valuetext={short(value(ends[which]))}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={drag(which)}
      onPointerUp={() => set(ends)}
      onKeyDown={key(which)}
    />
  );
  return (
    <fieldset class="range">
      <legend>{capital(score.title)}</legend>
      <output>
        {short(value(from))} to {short(value(to))}
      </output>
      <div class="bins" aria-hidden="true">
        {score.bins.map((n, i) => {
          const inside = ((i + 1) / score.bins.length) * STEPS > from && (i / score.bins.length) * STEPS < to;
          return (
            <span key={i} class={inside ? "in" : ""} style={{ height: `${n ? 6 + 94 * Math.sqrt(n / most) : 0}%` }} />
          );
        })}
      </div>
      <div class="handles" ref={track}>
        {handle(0)}
        {handle(1)}
      </div>
    </fieldset>
  );
}
