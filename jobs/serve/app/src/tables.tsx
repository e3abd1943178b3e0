// The two pages that are tables: wrong labels by pairs of classes, and the progress of the review.

import { useState } from "preact/hooks";
import type { Agreement, Batch, Pair, SafeFolder } from "./api";
import { api } from "./api";
import { accept, confirmed, count, decide, keepFolder, undo } from "./decide";
import { common, useKeys } from "./dialogs";
import { Empty, Fault, Thumb, percent, plain, tail, useSeen, when, whole } from "./parts";
import { changes, filter, go, lake, queryOf, useLoad, useStore } from "./state";

const SHOWN = 50; // pairs at first

const filtersOf = (pair: Pair) => ({ issue: ["wrong_label"], label: [pair.label], suggested: [pair.suggested] });

export function Labels({ onHelp }: { onHelp: () => void }) {
  const changed = useStore(changes);
  const { value, error } = useLoad((signal) => api.confusions(signal), [changed]);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [shown, setShown] = useState(SHOWN);
  const decides = !lake.value?.read_only;
  const pairs = value?.pairs ?? [];
  const key = (pair: Pair) => JSON.stringify([pair.label, pair.suggested]);
  const picked = pairs.filter((pair) => chosen.has(key(pair)));
  const most = Math.max(1, ...pairs.map((pair) => pair.images));
  useKeys(0, (pressed) => common(pressed, onHelp));

  const accept = async (some: Pair[]) => {
    const n = some.reduce((sum, pair) => sum + pair.images - pair.decided, 0);
    const to =
      some.length === 1 && some[0]
        ? `from “${some[0].label}” to “${some[0].suggested}”`
        : `as suggested, in ${count(some.length, "pair")}`;
    if (!(await confirmed(`Relabel ${count(n, "undecided picture")} ${to}?`, "Relabel"))) return;
    await decide(
      some.map((pair) => ({
        view: queryOf({ ...filtersOf(pair), decision: [""] }),
        decision: "relabel" as const,
        label: pair.suggested,
      })),
    );
    setChosen(new Set());
  };
  const flip = (pair: Pair) => {
    const next = new Set(chosen);
    if (!next.delete(key(pair))) next.add(key(pair));
    setChosen(next);
  };
  return (
    <main class="page" id="main">
      <header class="page-head">
        <h1>Labels</h1>
        <p class="dim" role="status">
          {value
            ? `${count(pairs.reduce((sum, pair) => sum + pair.images, 0))} that may have a wrong label, in ${count(pairs.length, "pair")} of classes`
            : "Looking…"}
        </p>
        {decides && picked.length > 0 && (
          <button class="primary" onClick={() => void accept(picked)}>
            Accept {count(picked.length, "pair")}
          </button>
        )}
      </header>
      <Fault error={error} />
      {value && !pairs.length && (
        <Empty>
          <p>No wrong labels were found.</p>
        </Empty>
      )}
      {pairs.length > 0 && (
        <div class="panel">
          <table class="pairs">
            <thead>
              <tr>
                {decides && (
                  <th scope="col" class="pick">
                    <span class="sr">Select</span>
                  </th>
                )}
                <th scope="col">Label</th>
                <th scope="col">Suggested</th>
                <th scope="col" class="num">
                  Pictures
                </th>
                <th scope="col" class="num done">
                  Decided
                </th>
                <th scope="col" class="examples">
                  Examples
                </th>
                {decides && (
                  <th scope="col">
                    <span class="sr">Accept</span>
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {pairs.slice(0, shown).map((pair) => (
                <tr key={key(pair)}>
                  {decides && (
                    <td class="pick">
                      <label>
                        <input
                          type="checkbox"
                          aria-label={`Select ${pair.label} to ${pair.suggested}`}
                          checked={chosen.has(key(pair))}
                          onChange={() => flip(pair)}
                        />
                      </label>
                    </td>
                  )}
                  <th scope="row">
                    <button class="plain link" onClick={() => filter(filtersOf(pair), { page: "gallery" })}>
                      {pair.label}
                    </button>
                  </th>
                  <td class="to">
                    <span aria-hidden="true">→ </span>
                    <b>{pair.suggested}</b>
                  </td>
                  <td class="num">
                    {whole(pair.images)}
                    <span class="bar-line">
                      <span style={{ transform: `scaleX(${pair.images / most})` }} />
                    </span>
                  </td>
                  <td class="num done">{pair.decided ? whole(pair.decided) : "–"}</td>
                  <td class="examples">
                    <Examples pair={pair} />
                  </td>
                  {decides && (
                    <td class="do">
                      <button onClick={() => void accept([pair])} disabled={pair.decided >= pair.images}>
                        <span>
                          Accept<span class="wide-only"> all</span>
                        </span>
                      </button>
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
          {pairs.length > shown && (
            <button class="plain more" onClick={() => setShown(shown + SHOWN)}>
              {whole(pairs.length - shown)} more…
            </button>
          )}
        </div>
      )}
    </main>
  );
}

function Examples({ pair }: { pair: Pair }) {
  const [ref, seen] = useSeen<HTMLDivElement>();
  const query = queryOf(filtersOf(pair));
  const { value } = useLoad((signal) => (seen ? api.rows(query, 0, 5, signal) : Promise.resolve(null)), [seen, query]);
  return (
    <div class="example-row" ref={ref}>
      {value?.rows.map((row, at) => (
        <button
          key={row.id}
          class="example"
          title={row.name}
          onClick={() => go({ page: "gallery", filters: filtersOf(pair), sort: "", open: row.id, at })}
        >
          <Thumb row={row} />
          <span class="sr">Open {row.name}</span>
        </button>
      ))}
    </div>
  );
}

export function Progress({ onHelp }: { onHelp: () => void }) {
  const changed = useStore(changes);
  const info = useStore(lake);
  const { value, error } = useLoad((signal) => api.reviews(signal), [changed]);
  useKeys(0, (pressed) => common(pressed, onHelp));
  const images = info?.images ?? 0;
  return (
    <main class="page" id="main">
      <header class="page-head">
        <h1>Progress</h1>
        <p class="dim" role="status">
          {value ? `${whole(value.decided)} of ${count(images)} decided` : "Looking…"}
        </p>
      </header>
      <Fault error={error} />
      {value && (
        <>
          <div
            class="bar-line large"
            role="progressbar"
            aria-label="Decided"
            aria-valuemin={0}
            aria-valuemax={images}
            aria-valuenow={value.decided}
          >
            <span style={{ transform: `scaleX(${images ? value.decided / images : 0})` }} />
          </div>
          <Precision issues={value.issues} />
          <div class="columns">
            <People by={value.by} />
            <Recent batches={value.recent} />
          </div>
          <Safe folders={value.folders} />
        </>
      )}
    </main>
  );
}

function Precision({ issues }: { issues: Agreement[] }) {
  if (!issues.length) return null;
  const offers = !lake.value?.read_only && issues.some((one) => one.offer);
  return (
    <section class="panel">
      <h2>How often the findings are right</h2>
      <table class="precision">
        <thead>
          <tr>
            <th scope="col">Issue</th>
            <th scope="col" class="num">
              Right
            </th>
            <th scope="col" class="num">
              Wrong
            </th>
            <th scope="col">Precision, with its interval</th>
            {offers && <th scope="col">The rest of them</th>}
          </tr>
        </thead>
        <tbody>
          {issues.map((one) => (
            <tr key={one.issue}>
              <th scope="row">
                <button
                  class="plain link"
                  onClick={() => filter({ issue: [one.issue] }, { page: "gallery", filters: { issue: [one.issue] } })}
                >
                  {one.title || plain(one.issue)}
                </button>
              </th>
              <td class="num">{whole(one.right)}</td>
              <td class="num">{whole(one.wrong)}</td>
              <td>
                <Interval share={one.precision} low={one.low} high={one.high} />
              </td>
              {offers && (
                <td>
                  {one.offer ? (
                    <button onClick={() => void rest(one)}>
                      {one.offer === "remove" ? "Remove" : "Relabel"} the other {whole(one.rest)}
                    </button>
                  ) : (
                    <span class="dim">–</span>
                  )}
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Interval({ share, low, high }: { share: number; low: number; high: number }) {
  return (
    <span class="interval">
      <span class="axis" aria-hidden="true">
        <span class="span" style={{ left: `${low * 100}%`, width: `${(high - low) * 100}%` }} />
        <span class="point" style={{ left: `${share * 100}%` }} />
      </span>
      <span>
        <b>{percent(share)}</b>{" "}
        <span class="dim">
          {percent(low)} to {percent(high)}
        </span>
      </span>
    </span>
  );
}

/** Does with the undecided pictures of an issue what was done with those that were judged. */
async function rest({ issue, title, offer, rest: n, right, wrong, alike, alike_low, alike_high }: Agreement) {
  const view = queryOf({ issue: [issue], decision: [""] });
  const why = `${percent(alike)} of the ${whole(right + wrong)} that were judged were ${offer === "remove" ? "removed" : "relabelled"} (${percent(alike_low)} to ${percent(alike_high)}, 95 % interval).`;
  if (offer === "relabel") await accept({ view }, { only: ["relabel"], why });
  else if (await confirmed(`Remove the other ${count(n)} with “${title}”?`, "Remove", true, why))
    await decide([{ view, decision: "remove" }]);
}

/** Folders that were marked as fine, and what has come into them since. */
function Safe({ folders }: { folders: SafeFolder[] }) {
  if (!folders.length) return null;
  return (
    <section class="panel">
      <h2>Folders marked as fine</h2>
      <ul class="batches">
        {folders.map((one) => (
          <li key={one.folder}>
            <span class="what">
              <button
                class="plain link"
                title={one.folder}
                onClick={() => filter({ folder: [one.folder] }, { page: "gallery", filters: { folder: [one.folder] } })}
              >
                {tail(one.folder, 3)}
              </button>{" "}
              {count(one.kept)} kept{" "}
              <span class="dim">
                {one.by}, {when(one.at)}
              </span>
            </span>
            {!one.undecided ? (
              <span class="dim">nothing new</span>
            ) : lake.value?.read_only ? (
              <span>{count(one.undecided)} undecided</span>
            ) : (
              <button onClick={() => void keepFolder(one.folder)}>Keep {whole(one.undecided)} undecided too</button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function People({ by }: { by: Record<string, number> }) {
  const people = Object.entries(by).sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...people.map(([, n]) => n));
  return (
    <section class="panel">
      <h2>Who decided</h2>
      {people.length ? (
        <ul class="bars">
          {people.map(([name, n]) => (
            <li key={name}>
              <span>{name}</span>
              <span class="bar-line">
                <span style={{ transform: `scaleX(${n / most})` }} />
              </span>
              <span class="n">{whole(n)}</span>
            </li>
          ))}
        </ul>
      ) : (
        <p class="dim">Nobody yet.</p>
      )}
    </section>
  );
}

function Recent({ batches }: { batches: Batch[] }) {
  return (
    <section class="panel">
      <h2>Latest decisions</h2>
      {batches.length ? (
        <ul class="batches">
          {batches.map((batch) => (
            <li key={batch.batch} class={batch.undone ? "undone" : ""}>
              <span class="what">
                <b>{batch.decision}</b> {count(batch.count)}
                {batch.note && `, ${batch.note}`}{" "}
                <span class="dim">
                  {batch.by}, {when(batch.at)}
                </span>
              </span>
              {batch.undone ? (
                <span class="dim">undone</span>
              ) : (
                !lake.value?.read_only && (
                  <button
                    onClick={() => void undo([batch.batch])}
                    aria-label={`Undo ${batch.decision} of ${count(batch.count)}`}
                  >
                    Undo
                  </button>
                )
              )}
            </li>
          ))}
        </ul>
      ) : (
        <p class="dim">None yet.</p>
      )}
    </section>
  );
}
