// Dialogs: the frame of all of them, the two questions, the help, the toasts, and the keys, which go to the topmost only.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Question } from "./decide";
import { OWN, count, hush, question, toasts, undo } from "./decide";
import { Icon } from "./parts";
import { Store, lake, useStore } from "./state";

type Handler = (key: string, event: KeyboardEvent) => boolean | void;
const handlers: { level: number; handler: { current: Handler } }[] = [];

/** Keys for the one with the highest level: 0 a page, 1 the large view, 2 side by side, 3 a question. */
export function useKeys(level: number, handler: Handler): void {
  const latest = useRef(handler);
  latest.current = handler;
  useLayoutEffect(() => {
    const entry = { level, handler: latest };
    handlers.push(entry);
    return () => void handlers.splice(handlers.indexOf(entry), 1);
  }, [level]);
}

addEventListener("keydown", (event) => {
  if (event.altKey || event.isComposing || event.defaultPrevented) return;
  const on = event.target instanceof Element ? event.target : document.body;
  const key =
    (event.ctrlKey || event.metaKey ? "Mod+" : "") +
    (event.shiftKey && event.key.length > 1 ? "Shift+" : "") +
    (event.key.length === 1 ? event.key.toLowerCase() : event.key);
  if (on.closest("textarea, select, input:not([type=checkbox]):not([type=range])")) return;
  if ((key === " " || key === "Enter") && on.closest("button, a, summary, input")) return;
  if (/Arrow|Home|End|Page/.test(key) && on.closest("[type=range], [role=slider]")) return;
  const top = handlers.reduce<(typeof handlers)[0] | null>(
    (best, one) => (best && best.level > one.level ? best : one),
    null,
  );
  if (top?.handler.current(key, event)) event.preventDefault();
});

/** The keys that all pages have. */
export function common(key: string, onHelp: () => void): boolean {
  if (key === "z" || key === "Mod+z") void undo();
  else if (key === "/") document.getElementById("search")?.focus();
  else if (key === "?") onHelp();
  else return false;
  return true;
}

const open = new Store<string[]>([]); // the dialogs that are open, the topmost last

interface Frame {
  title: string;
  kind?: string;
  hideTitle?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}

/** A modal dialog: the browser keeps the focus in it, and Esc closes it. */
export function Dialog({ title, kind = "small", hideTitle = false, onClose, children }: Frame) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    (dialog?.querySelector<HTMLElement>("[autofocus]") ?? dialog)?.focus();
    open.set([...open.value, id]);
    return () => {
      open.set(open.value.filter((other) => other !== id));
      dialog?.close();
    };
  }, []);
  const cancel = (event: Event) => {
    event.preventDefault();
    onClose();
  };
  const outside = (event: MouseEvent) => event.target === ref.current && kind === "small" && onClose();
  return (
    <dialog
      ref={ref}
      tabIndex={-1}
      class={`dialog ${kind}`}
      aria-labelledby={`${id}-title`}
      onCancel={cancel}
      onMouseDown={outside}
    >
      <h2 id={`${id}-title`} class={hideTitle ? "sr" : ""}>
        {title}
      </h2>
      {children}
      <Toasts of={id} />
    </dialog>
  );
}

/** Short messages over the topmost dialog, or over the page (`of` is null). */
export function Toasts({ of }: { of: string | null }) {
  const stack = useStore(open);
  const shown = useStore(toasts);
  const here = (stack.at(-1) ?? null) === of;
  return (
    <div class="toasts" role="status" aria-live="polite">
      {here &&
        shown.map((toast) => (
          <div key={toast.id} class={toast.bad ? "toast bad" : "toast"}>
            <span>{toast.text}</span>
            {toast.undo && (
              <button class="plain" onClick={toast.undo}>
                Undo
              </button>
            )}
            <button class="plain icon" aria-label="Close the message" onClick={() => hush(toast.id)}>
              <Icon name="close" />
            </button>
          </div>
        ))}
    </div>
  );
}

export function Questions() {
  const asked = useStore(question);
  if (!asked) return null;
  return asked.kind === "confirm" ? <Confirm asked={asked} /> : <Label asked={asked} />;
}

function Confirm({ asked }: { asked: Extract<Question, { kind: "confirm" }> }) {
  useKeys(3, () => false);
  return (
    <Dialog title={asked.text} onClose={() => asked.answer(false)}>
      {asked.more && <p class="dim">{asked.more}</p>}
      <div class="actions">
        <button onClick={() => asked.answer(false)}>Cancel</button>
        <button class={asked.danger ? "primary danger" : "primary"} autofocus onClick={() => asked.answer(true)}>
          {asked.yes}
        </button>
      </div>
    </Dialog>
  );
}

function Label({ asked }: { asked: Extract<Question, { kind: "label" }> }) {
  useKeys(3, () => false);
  const id = useId();
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const wanted = text.trim().toLowerCase();
  const options: { label: string | typeof OWN; says: string; hint: string }[] = [];
  if (!wanted && asked.suggested !== null)
    options.push({ label: asked.suggested, says: asked.suggested, hint: "suggested" });
  if (!wanted && asked.own) options.push({ label: OWN, says: "Each its suggested label", hint: count(asked.own) });
  const labels = lake.value?.labels ?? [];
  const matching = labels.filter(
    (label) => label.toLowerCase().includes(wanted) && (wanted || label !== asked.suggested),
  );
  matching.sort((a, b) => Number(b.toLowerCase().startsWith(wanted)) - Number(a.toLowerCase().startsWith(wanted)));
  for (const label of matching.slice(0, 100)) options.push({ label, says: label, hint: "" });
  if (wanted && !labels.includes(text.trim()))
    options.push({ label: text.trim(), says: text.trim(), hint: "new label" });
  const at = Math.min(chosen, options.length - 1);

  useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at, text]);
  const key = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setChosen(Math.max(0, Math.min(options.length - 1, at + step)));
    else if (event.key === "Enter" && options[at]) asked.answer(options[at].label);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title={`New label for ${count(asked.count)}`} onClose={() => asked.answer(null)}>
      <input
        type="text"
        role="combobox"
        aria-label="Label"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        autofocus
        aria-activedescendant={options[at] ? `${id}-${at}` : undefined}
        placeholder="Type to find a label"
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setChosen(0);
        }}
        onKeyDown={key}
      />
      <ul class="options" role="listbox" id={`${id}-list`} aria-label="Labels" ref={list}>
        {options.map((option, i) => (
          <li
            key={i}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === at}
            onClick={() => asked.answer(option.label)}
          >
            <span>{option.says}</span> <small>{option.hint}</small>
          </li>
        ))}
      </ul>
      <div class="actions">
        <button onClick={() => asked.answer(null)}>Cancel</button>
        <button class="primary" disabled={!options[at]} onClick={() => options[at] && asked.answer(options[at].label)}>
          Relabel
        </button>
      </div>
    </Dialog>
  );
}

const KEYS: [string, [string, string][]][] = [
  [
    "Decide",
    [
      ["K", "keep"],
      ["R", "remove"],
      ["L", "relabel; Enter takes the suggested label"],
      ["S", "skip"],
      ["Y", "accept what is suggested"],
      ["Z or Ctrl+Z", "undo the last step"],
    ],
  ],
  [
    "Gallery",
    [
      ["← ↑ ↓ →", "move"],
      ["Home End PgUp PgDn", "go far"],
      ["Enter", "open the picture"],
      ["Space or X", "select"],
      ["Shift+arrows or Shift+click", "select a range"],
      ["Ctrl+A", "select all that the filter holds; then a decision, or Y, is for all"],
      ["Esc", "select nothing"],
      ["/", "search"],
      ["?", "this help"],
    ],
  ],
  [
    "Map",
    [
      ["← ↑ ↓ →", "move"],
      ["+ − 0", "larger, smaller, whole"],
      ["Shift+drag", "draw a lasso"],
      ["V", "take what is in sight into the lasso"],
      ["Esc", "take the lasso away"],
    ],
  ],
  [
    "Large view",
    [
      ["← →", "previous, next"],
      ["+ − 0", "larger, smaller, whole"],
      ["M", "more like this"],
      ["C", "side by side with the evidence"],
      ["Esc", "close"],
    ],
  ],
  [
    "Side by side",
    [
      ["← →", "move the slider"],
      ["X", "swap the two pictures"],
    ],
  ],
  [
    "Copies",
    [
      ["↑ ↓", "previous, next group"],
      ["← →", "another member"],
      ["K", "keep this one, remove the others"],
      ["A", "keep all"],
      ["Y", "accept what is suggested for the group"],
    ],
  ],
];

export function Help({ onClose }: { onClose: () => void }) {
  useKeys(3, () => false);
  const decides = !lake.value?.read_only;
  return (
    <Dialog title="Keys" kind="small wide" onClose={onClose}>
      <div class="keys">
        {KEYS.filter(([title]) => decides || title !== "Decide").map(([title, keys]) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(([key, does]) => [
                <dt key={key}>{key.split(" ").map((k) => (k === "or" ? " or " : <kbd key={k}>{k}</kbd>))}</dt>,
                <dd key={does}>{does}</dd>,
              ])}
            </dl>
          </section>
        ))}
      </div>
      <div class="actions">
        <button class="primary" autofocus onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
