// Selecting and deciding: what is selected, what is asked before a decision, and the way back.

import type { Chosen, Decision, Judgement, Row } from "./api";
import { api } from "./api";
import { currentRows } from "./rows";
import { Store, changes, lake, words } from "./state";

/** The selected rows, or a whole view. */
export interface Selection {
  rows: ReadonlyMap<number, Row>;
  view: string | null;
}

export const NOTHING: Selection = { rows: new Map(), view: null };
export const selection = new Store<Selection>(NOTHING);
export const focus = new Store(0); // the index in the view of the row that has the focus

export interface Toast {
  id: number;
  text: string;
  bad: boolean;
  undo: (() => void) | null;
}

export const toasts = new Store<Toast[]>([]);
let serial = 0;

export function say(text: string, more: Partial<Toast> = {}): void {
  const toast: Toast = { id: ++serial, text, bad: false, undo: null, ...more };
  toasts.set([...toasts.value.slice(-2), toast]);
  setTimeout(() => hush(toast.id), toast.undo || toast.bad ? 10_000 : 5_000);
}

export const hush = (id: number) => toasts.set(toasts.value.filter((toast) => toast.id !== id));

const fail = (error: unknown) => say(words(error), { bad: true });

/** A question that waits for its answer in a dialog. */
export type Question =
  | { kind: "confirm"; text: string; more: string; yes: string; danger: boolean; answer: (yes: boolean) => void }
  | {
      kind: "label";
      count: number;
      suggested: string | null;
      own: number;
      answer: (label: string | typeof OWN | null) => void;
    };

/** The answer that every picture shall have the label that was suggested for it. */
export const OWN = Symbol("own");
export const question = new Store<Question | null>(null);

function ask<T>(make: (answer: (value: T) => void) => Question): Promise<T> {
  return new Promise((resolve) =>
    question.set(
      make((value) => {
        question.set(null);
        resolve(value);
      }),
    ),
  );
}

export const confirmed = (text: string, yes: string, danger = false, more = "") =>
  ask<boolean>((answer) => ({ kind: "confirm", text, more, yes, danger, answer }));

export type Target = { rows: Row[] } | { view: string; count: number };

const DONE: Record<Decision, string> = { keep: "kept", remove: "removed", relabel: "relabelled", skip: "skipped" };
export const VERBS: Record<Decision, string> = { keep: "Keep", remove: "Remove", relabel: "Relabel", skip: "Skip" };

export const count = (n: number, one = "picture", many = `${one}s`) =>
  `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Decides for the target, asking first for a label or, for a whole view, whether it is meant. */
export async function act(decision: Decision, target: Target): Promise<boolean> {
  if (lake.value?.read_only || question.value) return false;
  const n = "view" in target ? target.count : target.rows.length;
  if (!n) return false;
  let label: string | typeof OWN | null = null;
  if (decision === "relabel") {
    label = await askLabel(target, n);
    if (label === null) return false;
  }
  if ("view" in target) {
    const what = typeof label === "string" ? ` as “${label}”` : "";
    const yes = await confirmed(
      `${VERBS[decision]} all ${count(n)} that the filter holds${what}?`,
      VERBS[decision],
      decision === "remove",
    );
    return yes && decide([{ view: target.view, decision, ...(typeof label === "string" ? { label } : {}) }]);
  }
  if (label === OWN) return decide(eachItsOwn(target.rows));
  return decide([{ ids: target.rows.map((row) => row.id), decision, ...(label !== null ? { label } : {}) }]);
}

function askLabel(target: Target, n: number): Promise<string | typeof OWN | null> {
  const suggested =
    "view" in target
      ? new URLSearchParams(target.view).getAll("suggested")
      : target.rows.flatMap((row) => row.suggested_label ?? []);
  const [first, ...others] = new Set(suggested);
  const all = "view" in target || suggested.length === n;
  return ask((answer) => ({
    kind: "label",
    count: n,
    suggested: !others.length && all ? (first ?? null) : null,
    own: "rows" in target && (others.length || !all) ? suggested.length : 0,
    answer,
  }));
}

function eachItsOwn(rows: Row[]): Judgement[] {
  const groups = new Map<string, number[]>();
  for (const { id, suggested_label: label } of rows) {
    if (label !== null) groups.set(label, [...(groups.get(label) ?? []), id]);
  }
  return [...groups].map(([label, ids]) => ({ ids, decision: "relabel", label }));
}

const listed = (parts: (string | false)[]) => parts.filter(Boolean).join(", ");

/** Decides as is suggested. one: a single picture, which is not asked about. */
export async function accept(
  chosen: Chosen,
  { only = ["remove", "relabel"], one = false, why = "" }: { only?: string[]; one?: boolean; why?: string } = {},
): Promise<boolean> {
  if (lake.value?.read_only || question.value) return false;
  try {
    await queue;
    const plan = await api.accept(chosen, only, true);
    const n = plan.remove + plan.relabel;
    const left = listed([
      !!plan.review && `${plan.review.toLocaleString("en")} to review`,
      !!plan.decided && `${plan.decided.toLocaleString("en")} decided already`,
      !!plan.others && `${plan.others.toLocaleString("en")} ${only.length > 1 ? "without a suggestion" : "others"}`,
    ]);
    if (!n) {
      say(`Nothing to accept${left ? `: ${left}` : ""}.`);
      return false;
    }
    const does = listed([
      !!plan.remove && `remove ${count(plan.remove)}`,
      !!plan.relabel && `relabel ${count(plan.relabel)}, each as suggested`,
    ]);
    const more = [why, left ? `Left alone: ${left}.` : ""].filter(Boolean).join(" ");
    const text = `${does.charAt(0).toUpperCase()}${does.slice(1)}?`;
    if (!one && !(await confirmed(text, "Accept", plan.remove > 0, more))) return false;
    const done = await api.accept(chosen, only, false);
    if (done.batch === null) return false;
    finished(
      [done.batch],
      listed([!!done.remove && `${done.remove.toLocaleString("en")} removed`, !!done.relabel && `${done.relabel.toLocaleString("en")} relabelled`]),
    );
    return true;
  } catch (error) {
    fail(error);
    return false;
  }
}

/** Keeps all undecided pictures under a folder, those of today. */
export async function keepFolder(folder: string): Promise<boolean> {
  if (lake.value?.read_only || question.value) return false;
  try {
    await queue;
    const { count: n } = await api.keepFolder(folder, true);
    if (!n) {
      say("Every picture of this folder is decided already.");
      return false;
    }
    const more = "Decisions that were made before stay. Pictures that come later are not kept by this; Progress counts them.";
    if (!(await confirmed(`Keep all ${count(n, "undecided picture")} under ${folder}?`, "Keep", false, more))) return false;
    const done = await api.keepFolder(folder, false);
    if (done.batch !== null) finished([done.batch], `${done.count.toLocaleString("en")} kept`);
    return true;
  } catch (error) {
    fail(error);
    return false;
  }
}

/** Tells of a step that can be undone, and has all asked for again that it changed. */
function finished(batches: string[], text: string): void {
  made.push(batches);
  say(text, { undo: () => void undo(batches) });
  currentRows().reload();
  changes.set(changes.value + 1);
}

const made: string[][] = []; // the batches of this visit, the last one last
let queue: Promise<unknown> = Promise.resolve();

/** Sends decisions, one after the other, as one step that can be undone. */
export function decide(judgements: Judgement[]): Promise<boolean> {
  const sent = queue.then(() => send(judgements));
  queue = sent;
  return sent;
}

async function send(judgements: Judgement[]): Promise<boolean> {
  const batches: string[] = [];
  const counts = new Map<string, number>();
  try {
    for (const judgement of judgements) {
      const { batch, count } = await api.decide(judgement);
      const { decision, ids, label } = judgement;
      if (decision === "note") continue;
      batches.push(batch);
      counts.set(DONE[decision], (counts.get(DONE[decision]) ?? 0) + count);
      if (ids) currentRows().decided(new Set(ids), decision, label ?? null);
      else currentRows().reload();
    }
  } catch (error) {
    fail(error);
  }
  if (batches.length) {
    made.push(batches);
    const text = [...counts].map(([done, n]) => `${n.toLocaleString("en")} ${done}`).join(", ");
    say(text, { undo: () => void undo(batches) });
  }
  changes.set(changes.value + 1);
  return batches.length > 0 || judgements.every((judgement) => judgement.decision === "note");
}

/** Takes back the given batches, or the last step of this visit, or else the server's last one of this person. */
export async function undo(batches?: string[]): Promise<void> {
  if (lake.value?.read_only) return;
  await queue;
  const step = batches ?? made.at(-1) ?? [undefined];
  const place = made.findIndex((others) => others[0] === step[0]);
  if (place >= 0) made.splice(place, 1);
  let n = 0;
  try {
    for (const batch of [...step].reverse()) n += (await api.undo(batch)).count;
    say(`${count(n, "decision")} undone`);
  } catch (error) {
    fail(error);
  }
  toasts.set(toasts.value.filter((toast) => !toast.undo));
  currentRows().reload();
  changes.set(changes.value + 1);
}
