// Pictures at large: one that zooms and pans, and two side by side under a slider.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Row } from "./api";
import { api, pictureUrl, thumbUrl } from "./api";
import { Dialog, useKeys } from "./dialogs";
import { Icon, baseName, differences } from "./parts";
import { leave, useLoad } from "./state";

export interface ZoomControl {
  by: (factor: number) => void;
  whole: () => void;
}

const WHOLE = { scale: 1, x: 0, y: 0 };

interface Zoomed {
  row: Pick<Row, "id" | "name" | "readable">;
  control: { current: ZoomControl | null };
  onSwipe: (step: -1 | 1) => void;
}

/** A picture that zooms by wheel, pinch and double click, and pans by drag. A swipe over the whole picture goes to the next. */
export function Zoom({ row, control, onSwipe }: Zoomed) {
  const box = useRef<HTMLDivElement>(null);
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const swipe = useRef<number | null>(null); // where one finger came down
  const [at, setAt] = useState(WHOLE);
  const [loaded, setLoaded] = useState<{ id: number; tiny: boolean; failed: boolean } | null>(null);
  useEffect(() => setAt(WHOLE), [row.id]);

  const zoom = (factor: number, clientX?: number, clientY?: number) => {
    const area = box.current?.getBoundingClientRect();
    if (!area) return;
    const px = clientX === undefined ? 0 : clientX - area.left - area.width / 2;
    const py = clientY === undefined ? 0 : clientY - area.top - area.height / 2;
    setAt((old) => {
      const scale = Math.max(1, Math.min(24, old.scale * factor));
      if (scale === 1) return WHOLE;
      const ratio = scale / old.scale;
      return within({ scale, x: px - (px - old.x) * ratio, y: py - (py - old.y) * ratio }, area);
    });
  };
  control.current = { by: zoom, whole: () => setAt(WHOLE) };

  useEffect(() => {
    const element = box.current;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), event.clientX, event.clientY);
    };
    element?.addEventListener("wheel", wheel, { passive: false });
    return () => element?.removeEventListener("wheel", wheel);
  }, []);

  const down = (event: PointerEvent) => {
    if (event.button) return;
    box.current?.setPointerCapture(event.pointerId);
    pointers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    swipe.current =
      event.pointerType === "touch" && pointers.current.size === 1 && at.scale === 1 ? event.clientX : null;
  };
  const drag = (event: PointerEvent) => {
    const area = box.current?.getBoundingClientRect();
    const before = pointers.current.get(event.pointerId);
    if (!before || !area) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
    pointers.current.set(event.pointerId, now);
    if (other) {
      const ratio =
        Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
      zoom(ratio, (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else
      setAt((old) =>
        old.scale === 1
          ? old
          : within({ scale: old.scale, x: old.x + now.x - before.x, y: old.y + now.y - before.y }, area),
      );
  };
  const up = (event: PointerEvent) => {
    pointers.current.delete(event.pointerId);
    const by = swipe.current === null || event.type !== "pointerup" ? 0 : event.clientX - swipe.current;
    swipe.current = null;
    if (Math.abs(by) > 60) onSwipe(by < 0 ? 1 : -1);
  };

  const mine = loaded?.id === row.id ? loaded : null;
  if (!row.readable || mine?.failed)
    return (
      <div class="zoom" ref={box}>
        <p class="nothumb">
          <Icon name="broken" /> This picture cannot be read.
        </p>
      </div>
    );
  return (
    <div
      class={at.scale > 1 ? "zoom in" : "zoom"}
      ref={box}
      onPointerDown={down}
      onPointerMove={drag}
      onPointerUp={up}
      onPointerCancel={up}
      onDblClick={(event) => (at.scale > 1 ? setAt(WHOLE) : zoom(3, event.clientX, event.clientY))}
    >
      {!mine && <img key={`t${row.id}`} class="under" src={thumbUrl(row.id)} alt="" draggable={false} />}
      <img
        key={row.id}
        class={mine?.tiny ? "tiny" : ""}
        src={pictureUrl(row.id)}
        alt={row.name}
        draggable={false}
        style={{ transform: `translate(${at.x}px, ${at.y}px) scale(${at.scale})` }}
        onLoad={(event) => setLoaded({ id: row.id, tiny: event.currentTarget.naturalWidth < 160, failed: false })}
        onError={() => setLoaded({ id: row.id, tiny: false, failed: true })}
      />
    </div>
  );
}

/** Keeps the picture over the middle of its box. */
function within(at: typeof WHOLE, area: DOMRect): typeof WHOLE {
  const limit = (value: number, length: number) =>
    Math.max((-length * (at.scale - 1)) / 2, Math.min((length * (at.scale - 1)) / 2, value));
  return { scale: at.scale, x: limit(at.x, area.width), y: limit(at.y, area.height) };
}

/** Two pictures, one over the other; a slider says how much of each is seen. */
export function Compare({ left, right }: { left: number; right: number }) {
  const [swapped, setSwapped] = useState(false);
  const [share, setShare] = useState(50);
  const { value, error } = useLoad(
    (signal) => Promise.all([api.image(left, signal), api.image(right, signal)]),
    [left, right],
  );
  const close = () => leave({ beside: null });
  useKeys(2, (key) => {
    if (key === "x") setSwapped(!swapped);
    else if (key === "ArrowLeft" || key === "ArrowRight")
      setShare(Math.max(0, Math.min(100, share + (key === "ArrowLeft" ? -4 : 4))));
    else return false;
    return true;
  });
  const [a, b] = value ? (swapped ? [value[1], value[0]] : value) : [null, null];
  const differs = a && b ? (b.is_keeper ? differences(a, b) : differences(b, a)) : [];
  return (
    <Dialog title="Side by side" kind="full compare" onClose={close}>
      <div class="compare-head">
        <p class="differs">
          {error ?? (differs.length ? differs.join(" · ") : value ? "No difference is known" : "…")}
        </p>
        <button onClick={() => setSwapped(!swapped)} aria-keyshortcuts="X">
          <Icon name="swap" /> Swap <kbd>X</kbd>
        </button>
        <button class="icon" aria-label="Close" onClick={close}>
          <Icon name="close" />
        </button>
      </div>
      {a && b && (
        <>
          <div class="pair">
            <img src={pictureUrl(b.id)} alt={`Right: ${b.name}`} draggable={false} />
            <img
              src={pictureUrl(a.id)}
              alt={`Left: ${a.name}`}
              draggable={false}
              style={{ clipPath: `inset(0 ${100 - share}% 0 0)` }}
            />
            <span class="line" style={{ left: `${share}%` }}>
              <span class="grip">
                <Icon name="left" />
                <Icon name="right" />
              </span>
            </span>
            <input
              type="range"
              min={0}
              max={100}
              step={0.5}
              value={share}
              aria-label="Share of the left picture"
              onInput={(event) => setShare(Number(event.currentTarget.value))}
            />
          </div>
          <div class="captions">
            <Caption row={a} />
            <Caption row={b} />
          </div>
        </>
      )}
    </Dialog>
  );
}

function Caption({ row }: { row: Row }) {
  return (
    <div>
      <b title={row.uri}>{baseName(row.name)}</b>
      <span class="dim">
        {[
          row.is_keeper ? "keeper" : "",
          row.width && row.height ? `${row.width} × ${row.height}` : "",
          row.label ?? "no label",
          row.split ?? "",
        ]
          .filter(Boolean)
          .join(" · ")}
      </span>
    </div>
  );
}
