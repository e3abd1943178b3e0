// The large view: one picture with all that is known about it, and the way to the next.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Decision, Picture, Row } from "./api";
import { api, pictureUrl } from "./api";
import { accept, act, decide, focus, say } from "./decide";
import { Dialog, common, useKeys } from "./dialogs";
import {
  Bar,
  DecisionBadge,
  DecisionButtons,
  Fault,
  Icon,
  KEY_OF,
  Thumb,
  baseName,
  bytes,
  capital,
  detailWords,
  issueTitle,
  markOf,
  percent,
  plain,
  relationWords,
  short,
  when,
  whole,
} from "./parts";
import { rowsOf, useRedraw } from "./rows";
import { changes, filter, go, lake, leave, place, queryOf, useLoad, useStore, words } from "./state";
import type { ZoomControl } from "./zoom";
import { Zoom } from "./zoom";

export function Detail({ id, onHelp }: { id: number; onHelp: () => void }) {
  const here = useStore(place);
  const changed = useStore(changes);
  const { value, error } = useLoad((signal) => api.image(id, signal), [id, changed]);
  const zoom = useRef<ZoomControl | null>(null);
  const walks = here.page === "gallery";
  const rows = rowsOf(queryOf(here.filters, here.sort));
  useRedraw(rows);

  const at = rows.get(here.at)?.id === id ? here.at : (rows.indexOf(id) ?? here.at);
  const total = rows.total ?? 0;
  const row: Row | null = value?.id === id ? value : rows.get(at)?.id === id ? (rows.get(at) ?? null) : null;
  useEffect(() => {
    if (!walks) return;
    rows.want(Math.max(0, at - 20), at + 40);
    const next = rows.get(at + 1);
    if (next?.readable) new Image().src = pictureUrl(next.id);
  }, [id, rows, rows.total === null]);

  // An address may name the picture alone: where it stands in the view is asked for once.
  useEffect(() => {
    if (!walks || rows.get(here.at)?.id === id) return;
    const asking = new AbortController();
    api.place(rows.query, id, asking.signal).then(
      ({ position }) => {
        if (place.value.open !== id) return;
        focus.set(position);
        if (position !== place.value.at) go({ at: position }, true);
      },
      () => undefined, // the view does not hold it, and it is shown all the same
    );
    return () => asking.abort();
  }, []);

  /** Shows what stands at a place of the view. */
  const show = async (index: number) => {
    if (!walks) return;
    if (index < 0 || (rows.total !== null && index >= rows.total)) {
      if (rows.total === 0) leave({ open: null });
      else say(index < 0 ? "This is the first picture of the view." : "This was the last picture of the view.");
      return;
    }
    try {
      const found = rows.get(index)?.id ?? (await api.step(rows.query, index)).id;
      if (found === null || place.value.open === null) return;
      focus.set(index);
      go({ open: found, at: index }, true);
    } catch (failure) {
      say(words(failure), { bad: true });
    }
  };
  const judge = async (decision: Decision) => {
    if (!row || !(await act(decision, { rows: [row] })) || place.value.open !== id) return;
    const gone = rows.get(at)?.id !== id; // the view does not hold decided pictures
    await show(gone ? at : at + 1);
  };
  const suggested = async () => {
    if (!row || !(await accept({ ids: [id] }, { one: true })) || place.value.open !== id) return;
    await show(new URLSearchParams(rows.query).has("decision") ? at : at + 1);
  };
  const close = () => leave({ open: null, beside: null });
  const beside = (other: number) => go({ beside: other });
  const like = () => filter({ like: [String(id)] }, { page: "gallery", sort: "" });
  const canLike = !!lake.value?.search.like;
  const other =
    value?.findings.find((finding) => finding.evidence)?.evidence ??
    value?.cluster_members.find((member) => member.id !== id);

  useKeys(1, (key) => {
    const decision = KEY_OF.get(key);
    if (decision) void judge(decision);
    else if (key === "y") void suggested();
    else if (key === "ArrowRight") void show(at + 1);
    else if (key === "ArrowLeft") void show(at - 1);
    else if (key === "+" || key === "=") zoom.current?.by(1.5);
    else if (key === "-") zoom.current?.by(1 / 1.5);
    else if (key === "0") zoom.current?.whole();
    else if (key === "m" && canLike) like();
    else if (key === "c" && other) beside(other.id);
    else return key !== "/" && common(key, onHelp);
    return true;
  });

  return (
    <Dialog title={row ? baseName(row.name) : `Picture ${id}`} kind="full detail" hideTitle onClose={close}>
      <div class="view">
        <div class="view-head">
          <p class="where-am-i" role="status">
            {walks && total > 0 && rows.get(at)?.id === id ? `${whole(at + 1)} of ${whole(total)}` : ""}
          </p>
          <button class="icon" aria-label="Smaller" title="Smaller (−)" onClick={() => zoom.current?.by(1 / 1.5)}>
            <Icon name="minus" />
          </button>
          <button class="icon" aria-label="Larger" title="Larger (+)" onClick={() => zoom.current?.by(1.5)}>
            <Icon name="plus" />
          </button>
          <button
            class="icon"
            aria-label="Whole picture"
            title="Whole picture (0)"
            onClick={() => zoom.current?.whole()}
          >
            <Icon name="whole" />
          </button>
          <button class="icon" aria-label="Close" title="Close (Esc)" onClick={close}>
            <Icon name="close" />
          </button>
        </div>
        {row ? (
          <Zoom row={row} control={zoom} onSwipe={(step) => void show(at + step)} />
        ) : (
          <div class="zoom">
            <p class="nothumb">{error ?? "…"}</p>
          </div>
        )}
        {walks && (
          <button class="turn before" aria-label="Previous" disabled={at <= 0} onClick={() => void show(at - 1)}>
            <Icon name="left" />
          </button>
        )}
        {walks && (
          <button class="turn after" aria-label="Next" disabled={at + 1 >= total} onClick={() => void show(at + 1)}>
            <Icon name="right" />
          </button>
        )}
        <DecisionButtons onAct={(decision) => void judge(decision)} now={row?.decision ?? null} />
      </div>
      <div class="facts" tabIndex={0} role="region" aria-label="About this picture">
        {row && (
          <div class="who">
            <h3 class="title" title={row.uri}>
              {row.name}
            </h3>
            <p class="labels">
              <span class="tag">{row.label ?? <i>no label</i>}</span>
              {row.suggested_label !== null && (
                <>
                  {" "}
                  → <span class="tag new">{row.suggested_label}</span>
                </>
              )}
              {row.decision && (
                <span class="decided">
                  <DecisionBadge row={row} /> {row.decision}
                  {row.decided_label !== null && ` → ${row.decided_label}`}
                </span>
              )}
            </p>
            {!lake.value?.read_only && !row.decision && (row.suggestion === "remove" || row.suggestion === "relabel") && (
              <button onClick={() => void suggested()} aria-keyshortcuts="Y">
                <Icon name="check" /> {row.suggestion === "remove" ? "Remove" : "Relabel"} as suggested <kbd>Y</kbd>
              </button>
            )}
            {canLike && row.readable && (
              <button onClick={like}>
                <Icon name="search" /> More like this <kbd>M</kbd>
              </button>
            )}
          </div>
        )}
        {row && <Fault error={error} />}
        {value?.id === id && <Facts value={value} beside={beside} />}
      </div>
    </Dialog>
  );
}

function Part({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section>
      <h4>{title}</h4>
      {children}
    </section>
  );
}

function Facts({ value, beside }: { value: Picture; beside: (id: number) => void }) {
  const info = lake.value;
  const scores = Object.entries(value.scores).filter((pair): pair is [string, number] => pair[1] !== null);
  const facts: [string, string][] = [
    ["Size", value.width && value.height ? `${value.width} × ${value.height}` : ""],
    ["File", [value.format, value.size_bytes === null ? "" : bytes(value.size_bytes)].filter(Boolean).join(", ")],
    ["Split", value.split ?? ""],
    ["Source", value.source ?? ""],
    ["Medium", value.medium ?? ""],
    ["Topic", value.topic === null ? "" : String(value.topic)],
    ["Changed", value.modified_at ? when(value.modified_at) : ""],
    ["Damage", value.damage ?? ""],
    ["Number", String(value.id)],
  ];
  return (
    <>
      {value.failure && (
        <p class="error">
          <b>{plain(value.failure.error)}</b> {value.failure.detail}
        </p>
      )}
      {value.findings.length > 0 && (
        <Part title="Findings">
          {value.findings.map((finding, i) => (
            <div key={i} class="finding">
              <p>
                <span class={`badge t-${markOf(finding.issue)[1]}`} aria-hidden="true">
                  {markOf(finding.issue)[0]}
                </span>{" "}
                <b>{finding.title || issueTitle(finding.issue)}</b>
                {finding.suggestion && <span class={`hint h-${finding.suggestion}`}>{finding.suggestion}?</span>}
              </p>
              <p class="dim">
                {[
                  finding.suggested_label === null ? "" : `should be “${finding.suggested_label}”`,
                  detailWords(finding.detail),
                  finding.cosine === null ? "" : `${percent(finding.cosine)} alike`,
                  finding.score === null ? "" : `score ${short(finding.score)}`,
                ]
                  .filter(Boolean)
                  .join(" · ")}
              </p>
              {finding.evidence && (
                <button
                  class="mini"
                  onClick={() => finding.evidence && beside(finding.evidence.id)}
                  title="Side by side"
                >
                  <Thumb row={finding.evidence} />
                  <span>
                    {baseName(finding.evidence.name)}
                    <small>Side by side</small>
                  </span>
                </button>
              )}
            </div>
          ))}
        </Part>
      )}
      {value.cluster_members.length > 1 && (
        <Part title={`Copies (${value.cluster_size ?? value.cluster_members.length})`}>
          <ul class="minis">
            {value.cluster_members.map((member) => (
              <li key={member.id}>
                <button
                  class="mini"
                  aria-current={member.id === value.id}
                  disabled={member.id === value.id}
                  onClick={() => beside(member.id)}
                  title={member.uri}
                >
                  <Thumb row={member} />
                  <span>
                    {baseName(member.name)}
                    <small>
                      {member.is_keeper ? "keeper" : relationWords(member.relation).join(", ") || "copy"}
                      {member.id === value.id && " · this one"}
                    </small>
                  </span>
                  <DecisionBadge row={member} />
                </button>
              </li>
            ))}
          </ul>
        </Part>
      )}
      {value.neighbours.length > 0 && (
        <Part title="Most similar">
          <ul class="strip">
            {value.neighbours.map((near) => (
              <li key={near.id}>
                <button onClick={() => go({ open: near.id }, true)} title={near.name}>
                  <Thumb row={near} />
                  <small>
                    {near.cosine.toFixed(2)} {near.label ?? "–"}
                  </small>
                  <span class="sr">{near.name}</span>
                </button>
              </li>
            ))}
          </ul>
        </Part>
      )}
      {scores.length > 0 && (
        <Part title="Scores">
          <ul class="bars">
            {scores.map(([name, score]) => {
              const known = info?.scores.find((one) => one.name === name);
              const share = known ? (score - known.low) / (known.high - known.low || 1) : score;
              return <Bar key={name} name={capital(known?.title ?? plain(name))} share={share} says={short(score)} />;
            })}
          </ul>
        </Part>
      )}
      {value.concepts.length > 0 && (
        <Part title="Concepts">
          <ul class="bars">
            {value.concepts.map(([name, score]) => (
              <Bar key={name} name={name} share={score} says={score.toFixed(2)} />
            ))}
          </ul>
        </Part>
      )}
      <Part title="Properties">
        <dl class="facts-list">
          {facts
            .filter(([, text]) => text)
            .map(([name, text]) => [<dt key={name}>{name}</dt>, <dd key={`${name} is`}>{text}</dd>])}
          {Object.entries(value.properties).map(
            ([name, n]) =>
              n !== null && [
                <dt key={name}>{plain(name)}</dt>,
                <dd key={`${name} is`}>{typeof n === "number" ? short(n) : String(n)}</dd>,
              ],
          )}
          <dt>Address</dt>
          <dd class="uri">{value.uri}</dd>
        </dl>
      </Part>
      {value.history.length > 0 && (
        <Part title="Decisions">
          <ul class="history">
            {value.history.map((review) => (
              <li key={review.id} class={review.undone ? "undone" : ""}>
                <b>
                  {review.decision}
                  {review.label !== null && ` → ${review.label}`}
                </b>
                {review.undone && " (undone)"}{" "}
                <span class="dim">
                  {review.by}, {when(review.at)}
                </span>
                {review.note && <p>{review.note}</p>}
              </li>
            ))}
          </ul>
        </Part>
      )}
      {!info?.read_only && <Note key={value.id} id={value.id} />}
    </>
  );
}

function Note({ id }: { id: number }) {
  const [text, setText] = useState("");
  const save = async (event: Event) => {
    event.preventDefault();
    if (text.trim() && (await decide([{ ids: [id], decision: "note", note: text.trim() }]))) {
      setText("");
      say("Note saved");
    }
  };
  return (
    <form class="note" onSubmit={(event) => void save(event)}>
      <input
        type="text"
        aria-label="Note"
        placeholder="Add a note"
        maxLength={500}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button disabled={!text.trim()}>Save</button>
    </form>
  );
}
