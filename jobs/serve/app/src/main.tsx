// The frame of the app: the head with the pages and the search, and whatever lies over it.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "./style.css";
import { ApiError, api, stopped } from "./api";
import { Copies } from "./copies";
import { say } from "./decide";
import { Detail } from "./detail";
import { Help, Questions, Toasts } from "./dialogs";
import { Gallery } from "./gallery";
import { MapPage } from "./map/page";
import { Fault, Icon, percent } from "./parts";
import type { Page } from "./state";
import { PAGES, Store, filter, go, lake, place, useStore, words } from "./state";
import { Runs } from "./runs";
import { Labels, Progress } from "./tables";
import { Compare } from "./zoom";

const trouble = new Store<string | null>(null);

/** Asks for the lake until it is ready, and then now and then until all of the search is. */
async function follow(): Promise<void> {
  let rest = 2000;
  for (;;) {
    try {
      const found = await api.lake();
      lake.set(found);
      trouble.set(null);
      if (found.ready && found.search.like && found.search.words) return;
      await new Promise((wake) => setTimeout(wake, found.ready ? (rest = Math.min(60_000, rest * 1.5)) : 300));
    } catch (error) {
      trouble.set(words(error));
      if (error instanceof ApiError && error.status === 401) return;
      await new Promise((wake) => setTimeout(wake, 3000));
    }
  }
}

function App() {
  const info = useStore(lake);
  const here = useStore(place);
  const problem = useStore(trouble);
  const [help, setHelp] = useState(false);
  useEffect(() => {
    document.title = `${here.page === "gallery" ? "" : `${PAGES[here.page]} · `}imagesieve${info ? ` · ${info.name}` : ""}`;
  }, [here.page, info?.name]);
  if (!info || !info.ready) return <Waiting problem={problem} />;
  const onHelp = () => setHelp(true);
  const Content = {
    gallery: Gallery,
    map: MapPage,
    copies: Copies,
    labels: Labels,
    progress: Progress,
    runs: Runs,
  }[here.page];
  return (
    <div class={`app at-${here.page}`}>
      <Head onHelp={onHelp} />
      <Content key={here.page} onHelp={onHelp} />
      <Toasts of={null} />
      {here.open !== null && <Detail id={here.open} onHelp={onHelp} />}
      {here.open !== null && here.beside !== null && <Compare left={here.open} right={here.beside} />}
      <Questions />
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

function Waiting({ problem }: { problem: string | null }) {
  const info = useStore(lake);
  const done = info?.progress ?? 0;
  const fault = problem ?? info?.fault;
  return (
    <main class="waiting">
      <Logo />
      <h1>imagesieve</h1>
      <Fault error={fault ?? null} />
      {!fault && (
        <>
          <p role="status">{info ? `Making the gallery of ${info.name} ready` : "Connecting"}</p>
          <div
            class="bar-line large"
            role="progressbar"
            aria-label="Progress"
            aria-valuemin={0}
            aria-valuemax={100}
            aria-valuenow={Math.round(done * 100)}
          >
            <span style={{ transform: `scaleX(${done})` }} />
          </div>
          <p class="dim">{info ? percent(done) : ""}</p>
        </>
      )}
    </main>
  );
}

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <g>
        <circle cx="9" cy="10" r="3" />
        <circle cx="16" cy="10" r="3" />
        <circle cx="23" cy="10" r="3" />
        <circle cx="12.5" cy="17" r="2.4" />
        <circle cx="19.5" cy="17" r="2.4" />
        <circle cx="16" cy="24" r="2.4" />
      </g>
    </svg>
  );
}

function Head({ onHelp }: { onHelp: () => void }) {
  const info = useStore(lake);
  const here = useStore(place);
  const follow = (event: MouseEvent, page: Page) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (page !== here.page) go({ page, at: 0, open: null, beside: null });
  };
  return (
    <header class="head">
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <span class="brand">
        <Logo />
        <b>imagesieve</b>
        <span class="dim lake" title={info?.uri}>
          {info?.name}
        </span>
      </span>
      <nav aria-label="Pages">
        {(Object.keys(PAGES) as Page[]).map((page) => (
          <a
            key={page}
            href={page === "gallery" ? "?" : `?page=${page}`}
            aria-current={page === here.page ? "page" : undefined}
            onClick={(event) => follow(event, page)}
          >
            {PAGES[page]}
          </a>
        ))}
      </nav>
      <Search />
      <button class="plain icon help" aria-label="Help: keys" title="Keys (?)" onClick={onHelp}>
        <b aria-hidden="true">?</b>
      </button>
    </header>
  );
}

/** Search by name, by words or by a picture that is chosen, pasted or dropped. */
function Search() {
  const info = useStore(lake);
  const { filters } = useStore(place);
  const canWords = !!info?.search.words;
  const canLike = !!info?.search.like;
  const [byWords, setByWords] = useState(canWords);
  const mode = byWords && canWords ? "words" : "text";
  const [text, setText] = useState("");
  const [over, setOver] = useState(false);
  const timer = useRef(0);
  const file = useRef<HTMLInputElement>(null);
  const given = filters[mode]?.[0] ?? "";
  useEffect(() => {
    if (document.activeElement?.id !== "search") setText(given);
  }, [given, mode]);
  useEffect(() => setByWords(filters.text && !filters.words ? false : canWords), [canWords]);

  const look = (value: string, replace: boolean) => {
    clearTimeout(timer.current);
    if (value.trim() === given) return;
    filter(
      { [mode]: value.trim() ? [value.trim()] : [] },
      { page: "gallery", ...(mode === "words" ? { sort: "" } : {}) },
      replace,
    );
  };
  const type = (value: string) => {
    setText(value);
    clearTimeout(timer.current);
    if (mode === "text") timer.current = setTimeout(() => look(value, true), 300);
    else if (!value) look("", false);
  };
  const upload = async (picture: Blob | null | undefined) => {
    if (!picture || !canLike) return;
    try {
      const { key } = await api.upload(picture);
      filter({ picture: [key] }, { page: "gallery", sort: "" });
    } catch (error) {
      if (!stopped(error)) say(words(error), { bad: true });
    }
  };
  const latest = useRef(upload);
  latest.current = upload;

  useEffect(() => {
    if (!canLike) return undefined;
    const files = (event: DragEvent) => !!event.dataTransfer?.types.includes("Files");
    const listeners: [string, (event: DragEvent & ClipboardEvent) => void][] = [
      [
        "dragover",
        (event) => {
          if (files(event)) {
            event.preventDefault();
            setOver(true);
          }
        },
      ],
      [
        "dragleave",
        (event) => {
          if (!event.relatedTarget) setOver(false);
        },
      ],
      [
        "drop",
        (event) => {
          if (files(event)) {
            event.preventDefault();
            setOver(false);
            void latest.current(event.dataTransfer?.files[0]);
          }
        },
      ],
      [
        "paste",
        (event) => {
          const picture = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
          if (picture) {
            event.preventDefault();
            void latest.current(picture);
          }
        },
      ],
    ];
    for (const [name, listener] of listeners) addEventListener(name, listener as EventListener);
    return () => {
      for (const [name, listener] of listeners) removeEventListener(name, listener as EventListener);
    };
  }, [canLike]);

  return (
    <form
      class="search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        look(text, false);
        document.getElementById("search")?.blur();
      }}
    >
      <Icon name="search" />
      {canWords && (
        <select
          aria-label="Search in"
          value={mode}
          onChange={(event) => {
            setByWords(event.currentTarget.value === "words");
          }}
        >
          <option value="words">Content</option>
          <option value="text">Name</option>
        </select>
      )}
      <input
        id="search"
        type="search"
        aria-label={mode === "words" ? "Search by words" : "Search in names"}
        aria-keyshortcuts="/"
        autocomplete="off"
        placeholder={mode === "words" ? "What is to be seen?" : "Part of the name"}
        value={text}
        onInput={(event) => type(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      {canLike && (
        <>
          <input
            ref={file}
            type="file"
            accept="image/*"
            hidden
            aria-label="Picture to search with"
            onChange={(event) => {
              void upload(event.currentTarget.files?.[0]);
              event.currentTarget.value = "";
            }}
          />
          <button
            type="button"
            class="plain icon"
            aria-label="Search with a picture"
            title="Search with a picture: choose, paste or drop one"
            onClick={() => file.current?.click()}
          >
            <Icon name="picture" />
          </button>
        </>
      )}
      {over && (
        <div class="drop" aria-hidden="true">
          <p>Drop the picture to find similar ones</p>
        </div>
      )}
    </form>
  );
}

/** The icon of the tab, made here so that it is no request of its own. */
function showIcon(): void {
  const dots = [
    [9, 10, 3],
    [16, 10, 3],
    [23, 10, 3],
    [12.5, 17, 2.4],
    [19.5, 17, 2.4],
    [16, 24, 2.4],
  ];
  const circles = dots.map(([x, y, r]) => `<circle cx="${x}" cy="${y}" r="${r}" fill="#fff"/>`).join("");
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0d6e6e"/>${circles}</svg>`;
  const link = document.createElement("link");
  link.rel = "icon";
  link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  document.head.append(link);
}

showIcon();
const root = document.getElementById("app");
if (root) {
  render(<App />, root);
  void follow();
}
