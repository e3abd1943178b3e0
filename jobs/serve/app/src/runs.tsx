// The page of runs: what came and went from one to another, and what the last stages did.

import type { Change, State } from "./api";
import { api } from "./api";
import { common, useKeys } from "./dialogs";
import { Empty, Fault, changeOf, markOf, plain, runName, short, when, whole } from "./parts";
import { filter, go, lake, place, useLoad, useStore } from "./state";

export function Runs({ onHelp }: { onHelp: () => void }) {
  const info = useStore(lake);
  const here = useStore(place);
  const { value, error } = useLoad((signal) => api.states(signal), []);
  useKeys(0, (pressed) => common(pressed, onHelp));
  const states = value?.states ?? [];
  const shown = states.findIndex((state) => state.shown);
  const since = here.since || states[shown + 1]?.run || "";
  const until = here.until;
  const swapped = here.since !== "" && until !== "";
  return (
    <main class="page" id="main">
      <header class="page-head">
        <h1>Runs</h1>
        <p class="dim" role="status">
          {value ? "What came and went from one run to another" : "Looking…"}
        </p>
      </header>
      <Fault error={error} />
      {value && states.length < 2 && (
        <Empty>
          <p>{states.length ? "One run has left findings: there is nothing to compare it with yet." : "No run has left findings yet."}</p>
        </Empty>
      )}
      {states.length > 1 && (
        <div class="between">
          <Choice title="From" states={states} value={since} onChange={(run) => go({ since: run })} />
          <Choice title="to" states={states} value={until} shown onChange={(run) => go({ until: run, since })} />
          {swapped && (
            <button onClick={() => go({ since: until, until: since })} title="The other way round">
              Swap
            </button>
          )}
        </div>
      )}
      {since !== "" && <Changes since={since} until={until} />}
      {value?.unknown && info && <p class="dim block aside">In which run each picture came is not known: {value.unknown}.</p>}
      {!!info?.runs.length && (
        <section class="panel">
          <h2>The last stages</h2>
          <div class="wide-table" tabIndex={0} role="region" aria-label="The last stages">
            <table>
              <thead>
                <tr>
                  <th scope="col">Job</th>
                  <th scope="col">Ended</th>
                  <th scope="col" class="num">
                    Seconds
                  </th>
                  <th scope="col">Status</th>
                  <th scope="col">Counts</th>
                </tr>
              </thead>
              <tbody>
                {info.runs.map((run, i) => (
                  <tr key={i}>
                    <th scope="row">{run.job}</th>
                    <td class="time">{run.ended_at ? when(run.ended_at) : "–"}</td>
                    <td class="num">{run.seconds === null ? "–" : short(run.seconds)}</td>
                    <td>
                      <span class={run.status === "done" ? "state ok" : "state"}>{run.status}</span>
                    </td>
                    <td>
                      {Object.entries(run.counts)
                        .filter(([, n]) => n)
                        .map(([name, n]) => `${plain(name)} ${whole(n)}`)
                        .join(", ")}
                      {run.notes.map((note, j) => (
                        <small key={j} class="dim block">
                          {note}
                        </small>
                      ))}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </section>
      )}
    </main>
  );
}

interface Chosen {
  title: string;
  states: State[];
  value: string;
  shown?: boolean; // whether what is shown may be chosen too
  onChange: (run: string) => void;
}

function Choice({ title, states, value, shown = false, onChange }: Chosen) {
  return (
    <label>
      {title}{" "}
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {shown && <option value="">what is shown</option>}
        {value !== "" && !states.some((state) => state.run === value) && <option value={value}>{runName(value)}</option>}
        {states.map((state) => (
          <option key={state.run} value={state.run} disabled={!state.there}>
            {runName(state.run)}
            {state.shown ? " (shown)" : ""}
          </option>
        ))}
      </select>
    </label>
  );
}

function Changes({ since, until }: { since: string; until: string }) {
  const { value, error } = useLoad((signal) => api.changes(since, until, signal), [since, until]);
  const issues = value?.issues ?? [];
  const sum = (name: "came" | "went" | "stayed") => issues.reduce((n, one) => n + one[name], 0);
  const show = (kind: "new" | "gone", issue = "") =>
    filter({}, { page: "gallery", filters: { [kind]: [changeOf(since, until, issue)] }, sort: "" });
  const cell = (kind: "new" | "gone", n: number, says: string, issue = "") =>
    n ? (
      <button class="plain link" aria-label={`Show ${whole(n)} ${kind}: ${says}`} onClick={() => show(kind, issue)}>
        {whole(n)}
      </button>
    ) : (
      <span class="dim">0</span>
    );
  return (
    <section class="panel" aria-label="What came and went">
      <Fault error={error} />
      {value && !issues.length && <p class="dim">Neither has findings.</p>}
      {issues.length > 0 && (
        <>
          <table>
            <thead>
              <tr>
                <th scope="col">Issue</th>
                <th scope="col" class="num">
                  New
                </th>
                <th scope="col" class="num">
                  Gone
                </th>
                <th scope="col" class="num">
                  Stayed
                </th>
              </tr>
            </thead>
            <tbody>
              {[...issues].sort(byChange).map((one) => (
                <tr key={one.issue}>
                  <th scope="row">
                    <span class={`badge t-${markOf(one.issue)[1]}`} aria-hidden="true">
                      {markOf(one.issue)[0]}
                    </span>{" "}
                    {one.title}
                  </th>
                  <td class="num">{cell("new", one.came, one.title, one.issue)}</td>
                  <td class="num">{cell("gone", one.went, one.title, one.issue)}</td>
                  <td class="num">{whole(one.stayed)}</td>
                </tr>
              ))}
              <tr>
                <th scope="row">All findings</th>
                <td class="num">{cell("new", sum("came"), "all findings")}</td>
                <td class="num">{cell("gone", sum("went"), "all findings")}</td>
                <td class="num">{whole(sum("stayed"))}</td>
              </tr>
            </tbody>
          </table>
          <p class="dim aside">A number shows its pictures. Of those gone, pictures that have left the lake are counted and not shown.</p>
        </>
      )}
    </section>
  );
}

const byChange = (a: Change, b: Change) => b.came + b.went - (a.came + a.went) || b.stayed - a.stayed;
