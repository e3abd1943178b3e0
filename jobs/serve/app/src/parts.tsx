// Small parts that all pages use: icons, pictures, badges, numbers and words.

import type { ComponentChildren } from "preact";
import { Component } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Decision, Row } from "./api";
import { thumbUrl } from "./api";
import { VERBS } from "./decide";
import { lake } from "./state";

const ICONS = {
  check: "M3.5 8.5l3 3 6-7",
  close: "M4 4l8 8M12 4l-8 8",
  tag: "M2.5 2.5h5l6 6-5 5-6-6zM5.2 5.2h.01",
  skip: "M3 4l5 4-5 4zM9 4l4 4-4 4z",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  filter: "M2 4h12M4.5 8h7M7 12h2",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.5 10.5L14 14",
  picture: "M2 3h12v10H2zM2 11l3.5-3.5 3 3 2-2L14 12M10.5 6h.01",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  whole: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  swap: "M2 5.5h11M10 2.5l3 3-3 3M14 10.5H3M6 7.5l-3 3 3 3",
  star: "M8 1.8l1.9 4 4.3.6-3.1 3 .7 4.4L8 11.7l-3.8 2.1.7-4.4-3.1-3 4.3-.6z",
  lasso: "M8 3c3.6 0 6 1.5 6 3.5S11.6 10 8 10 2 8.500 2 6.500 4.400 3 8 3zM5 9.400c-1.500.6-1.800 1.900-.7 2.400 1.200.5 1.700-.9.5-1.500M4.700 11.800c0 1-.5 1.700-1.200 2.200",
  broken: "M2 3h12v10H2zM2 3l12 10",
} as const;

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg class="ico" viewBox="0 0 16 16" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

export const DECISIONS: { decision: Decision; key: string; icon: keyof typeof ICONS }[] = [
  { decision: "keep", key: "K", icon: "check" },
  { decision: "remove", key: "R", icon: "close" },
  { decision: "relabel", key: "L", icon: "tag" },
  { decision: "skip", key: "S", icon: "skip" },
];
export const KEY_OF = new Map(DECISIONS.map(({ decision, key }) => [key.toLowerCase(), decision]));

/** What has gone wrong, in a line. */
export function Fault({ error, children }: { error: string | null; children?: ComponentChildren }) {
  return error === null ? null : (
    <p class="error" role="alert">
      {error} {children}
    </p>
  );
}

/** A line of a list of shares. share: 0..1. */
export function Bar({ name, share, says }: { name: string; share: number; says: string }) {
  return (
    <li>
      <span>{name}</span>
      <span class="bar-line">
        <span style={{ transform: `scaleX(${Math.max(0, Math.min(1, share))})` }} />
      </span>
      <span class="n">{says}</span>
    </li>
  );
}

/** What is said where there is nothing to show. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

/** The four buttons; without the right to decide there are none. */
export function DecisionButtons({ onAct, now }: { onAct: (decision: Decision) => void; now?: Decision | null }) {
  if (lake.value?.read_only) return null;
  return (
    <div class="decide" role="group" aria-label="Decide">
      {DECISIONS.map(({ decision, key, icon }) => (
        <button
          key={decision}
          class={`d-${decision}`}
          aria-pressed={now === undefined ? undefined : now === decision}
          aria-keyshortcuts={key}
          onClick={() => onAct(decision)}
        >
          <Icon name={icon} /> {VERBS[decision]} <kbd>{key}</kbd>
        </button>
      ))}
    </div>
  );
}

export function DecisionBadge({ row }: { row: Row }) {
  const known = DECISIONS.find(({ decision }) => decision === row.decision);
  if (!known) return null;
  const says =
    row.decision === "relabel" && row.decided_label !== null ? `relabel: ${row.decided_label}` : known.decision;
  return (
    <span class={`badge d-${known.decision}`} title={`Decided: ${says}`} aria-hidden="true">
      <Icon name={known.icon} />
    </span>
  );
}

const THEMES: [RegExp, string, string][] = [
  [/cop|leak|dup/i, "C", "copies"],
  [/label/i, "L", "labels"],
  [/outl/i, "O", "outliers"],
  [/qual/i, "Q", "quality"],
];

/** The letter and the colour that stand for the theme of an issue. */
export function markOf(issue: string): [string, string] {
  const theme = lake.value?.issues[issue]?.theme ?? "";
  const known = THEMES.find(([pattern]) => pattern.test(theme));
  return known ? [known[1], known[2]] : [(theme[0] ?? "!").toUpperCase(), "other"];
}

export const issueTitle = (issue: string) => lake.value?.issues[issue]?.title ?? issue.replaceAll("_", " ");

/** One letter for each theme in which something was found. */
export function IssueBadges({ issues }: { issues: string[] }) {
  const marks = new Map<string, { letter: string; titles: string[] }>();
  for (const issue of issues) {
    const [letter, theme] = markOf(issue);
    const mark = marks.get(theme) ?? { letter, titles: [] };
    mark.titles.push(issueTitle(issue));
    marks.set(theme, mark);
  }
  return (
    <>
      {[...marks].map(([theme, { letter, titles }]) => (
        <span key={theme} class={`badge t-${theme}`} title={titles.join(", ")} aria-hidden="true">
          {letter}
        </span>
      ))}
    </>
  );
}

/** A small picture. When it goes out of sight before it came, its request is given up. */
export class Thumb extends Component<{ row: Row; alt?: string }, { failed: number | null }> {
  override state = { failed: null };
  private image: HTMLImageElement | null = null;

  override shouldComponentUpdate(next: { row: Row }, state: { failed: number | null }) {
    return next.row.id !== this.props.row.id || next.row.readable !== this.props.row.readable || state !== this.state;
  }
  override componentWillUnmount() {
    if (this.image && !this.image.complete) this.image.removeAttribute("src");
  }
  override render() {
    const { row, alt = "" } = this.props;
    if (!row.readable || this.state.failed === row.id) {
      return (
        <span class="nothumb" role={alt ? "img" : undefined} aria-label={alt || undefined}>
          <Icon name="broken" />
          cannot be read
        </span>
      );
    }
    return (
      <img
        key={row.id}
        class="thumb"
        src={thumbUrl(row.id)}
        alt={alt}
        decoding="async"
        draggable={false}
        ref={(image) => {
          if (image) this.image = image;
        }}
        onError={() => this.setState({ failed: row.id })}
      />
    );
  }
}

/** Whether an element has come into sight. */
export function useSeen<T extends Element>() {
  const ref = useRef<T>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true),
      { rootMargin: "200px" },
    );
    if (ref.current) watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return [ref, seen] as const;
}

export const whole = (n: number) => n.toLocaleString("en");
export const short = (n: number) =>
  Number.isInteger(n) ? whole(n) : Number(n.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 4 });
export const percent = (n: number) => `${Math.round(n * 100)}%`;
export const bytes = (n: number) => (n < 1000 ? `${n} B` : n < 1e6 ? `${short(n / 1000)} kB` : `${short(n / 1e6)} MB`);
export const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
export const plain = (name: string) => name.replaceAll("_", " ");
export const baseName = (name: string) => name.slice(name.lastIndexOf("/") + 1) || name;

export function when(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
}

/** When a run began, which its name tells. */
export function runName(run: string): string {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-/.exec(run) ?? [];
  return year ? when(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) : run;
}

/** The values of the filters `new` and `gone`: a run, or two, and an issue. */
export const changeOf = (since: string, until: string, issue = "") =>
  since + (until ? `..${until}` : "") + (issue ? `/${issue}` : "");

export function changeWords(value: string): string {
  const [runs = "", issue = ""] = value.split("/");
  const [since = "", until = ""] = runs.split("..");
  const what = issue ? `: ${issueTitle(issue)}` : "";
  return (until ? `${runName(since)} to ${runName(until)}` : `since ${runName(since)}`) + what;
}

/** The last parts of a path. */
export const tail = (path: string, parts = 2) => {
  const all = path.replace(/\/$/, "").split("/");
  return all.length > parts + 1 ? `…/${all.slice(-parts).join("/")}` : path;
};

/** The detail of a finding: a relation in words, else the text as it stands. */
export function detailWords(detail: string | null): string {
  const words = (detail ?? "").split(/\s+/).filter(Boolean);
  return words.every((name) => lake.value?.relations[name]) ? relationWords(detail).join(", ") : (detail ?? "");
}

/** How a copy stands to the one that is kept, in words. */
export function relationWords(relation: string | null): string[] {
  return (relation ?? "")
    .split(/\s+/)
    .filter(Boolean)
    .map((name) => lake.value?.relations[name] ?? plain(name));
}

/** What differs between a copy and the one that is kept, in words. */
export function differences(row: Row, keeper: Row): string[] {
  const words = relationWords(row.relation);
  if (
    row.width &&
    keeper.width &&
    row.height &&
    keeper.height &&
    (row.width !== keeper.width || row.height !== keeper.height)
  ) {
    const more = row.width * row.height - keeper.width * keeper.height;
    words.push(`${more > 0 ? "larger" : more < 0 ? "smaller" : "other shape"}: ${row.width} × ${row.height}`);
  }
  if (row.label !== keeper.label) words.push(`label: ${row.label ?? "none"}`);
  if (row.split !== keeper.split) words.push(`split: ${row.split ?? "none"}`);
  return words;
}

/** What the badges of a row show, for those who hear it. */
export function spoken(row: Row): string {
  return [
    ...row.issues.map(issueTitle),
    row.suggestion ? `suggestion: ${row.suggestion}${row.suggested_label ? ` to ${row.suggested_label}` : ""}` : "",
    row.decision ? `decided: ${row.decision}` : "",
  ]
    .filter(Boolean)
    .join(", ");
}
