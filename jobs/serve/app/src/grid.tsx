// The grid of pictures: only what is in sight exists, so millions of rows scroll without pause.
//
// Browsers cap the height of an element, so beyond LONGEST pixels the scroll position stands for a place in a
// longer, virtual list: its ends map one to one, the middle is stretched. Small movements always move by as much
// as the reader moved; jumps go through the map; at rest the scroll position is quietly put where the map wants it.

import { Component } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Row } from "./api";
import { focus, selection } from "./decide";
import { DecisionBadge, IssueBadges, Thumb, baseName, spoken, whole } from "./parts";
import type { Rows } from "./rows";
import { useRedraw } from "./rows";
import { useStore } from "./state";

const GAP = 12;
const PAD = 16;
const CAPTION = 46;
const LONGEST = 8_000_000;
const ENDS = 1_000_000;
const REST_MS = 150;

/** The map between the scroll position and the place in the virtual list. Both start at 0. */
export class Mapping {
  readonly height: number; // of the element
  constructor(
    readonly full: number, // of the virtual list
    readonly view: number, // of what is in sight
  ) {
    this.height = Math.min(full, LONGEST);
  }
  get last(): number {
    return Math.max(0, this.full - this.view);
  }
  private get lastScroll(): number {
    return Math.max(0, this.height - this.view);
  }
  place(scroll: number): number {
    if (this.full <= LONGEST || scroll <= ENDS) return Math.min(scroll, this.last);
    if (scroll >= this.lastScroll - ENDS) return this.last - (this.lastScroll - scroll);
    return ENDS + ((scroll - ENDS) * (this.last - 2 * ENDS)) / (this.lastScroll - 2 * ENDS);
  }
  scroll(place: number): number {
    if (this.full <= LONGEST || place <= ENDS) return place;
    if (place >= this.last - ENDS) return this.lastScroll - (this.last - place);
    return ENDS + ((place - ENDS) * (this.lastScroll - 2 * ENDS)) / (this.last - 2 * ENDS);
  }
  /** The place after the reader scrolled from one position, at one place, to another. */
  moved(from: number, at: number, to: number): number {
    if (this.full <= LONGEST) return to;
    if (to <= 0) return 0;
    if (to >= this.lastScroll - 1) return this.last;
    const by = to - from;
    return Math.abs(by) < 4 * this.view ? Math.max(0, Math.min(this.last, at + by)) : this.place(to);
  }
}

interface TileProps {
  row: Row | undefined;
  index: number;
  column: number;
  selected: boolean;
  tabbable: boolean;
  compact: boolean;
}

class Tile extends Component<TileProps> {
  override shouldComponentUpdate(next: TileProps) {
    return (Object.keys(next) as (keyof TileProps)[]).some((name) => next[name] !== this.props[name]);
  }
  override render() {
    const { row, index, column, selected, tabbable, compact } = this.props;
    const cell = {
      role: "gridcell",
      "aria-colindex": column + 1,
      "data-index": index,
      tabIndex: tabbable ? 0 : -1,
    } as const;
    if (!row)
      return (
        <div {...cell} class="tile" aria-busy="true" aria-label={`Picture ${index + 1} is loading`}>
          <div class="frame" />
        </div>
      );
    const { suggestion, decision, suggested_label: suggested } = row;
    return (
      <div
        {...cell}
        class={`tile${selected ? " selected" : ""}${decision ? ` is-${decision}` : ""}`}
        aria-selected={selected}
      >
        <div class="frame" aria-hidden="true">
          <Thumb row={row} />
          <span class="tick" data-tick>
            <svg viewBox="0 0 16 16">
              <path d="M3.5 8.5l3 3 6-7" />
            </svg>
          </span>
          <span class="corner">
            <DecisionBadge row={row} />
          </span>
          <span class="marks">
            <IssueBadges issues={row.issues} />
          </span>
          {suggestion && !decision && (
            <span class={`hint h-${suggestion}`} title={`Suggestion: ${suggestion}`}>
              {compact ? `${suggestion[0]?.toUpperCase()}?` : `${suggestion}?`}
            </span>
          )}
        </div>
        <div class="name" title={row.uri}>
          {baseName(row.name)}
        </div>
        <div class="label">
          {decision === "relabel" && row.decided_label !== null ? (
            <>
              <s>{row.label ?? "none"}</s> <b>{row.decided_label}</b>
            </>
          ) : (
            <>
              {row.label ?? <i>no label</i>}
              {suggested !== null && (
                <>
                  {" "}
                  → <em>{suggested}</em>
                </>
              )}
            </>
          )}
          {row.score !== null && <span class="score">{row.score.toFixed(2)}</span>}
        </div>
        <span class="sr">{spoken(row)}</span>
      </div>
    );
  }
}

interface GridProps {
  rows: Rows;
  size: number;
  fit: string;
  start: number; // the row to begin at
  onRest: (index: number) => void;
  onClick: (index: number, how: { tick: boolean; shift: boolean; mod: boolean }) => void;
  control: { current: GridControl | null };
}

export interface GridControl {
  columns: number;
  rowsInSight: number;
  reveal: (index: number, take: boolean) => void;
}

export function Grid({ rows, size, fit, start, onRest, onClick, control }: GridProps) {
  const redraw = useRedraw(rows);
  const [box, setBox] = useState({ width: 0, height: 0 });
  const [label, setLabel] = useState(false); // whether the place is told beside the scroll bar
  const scroller = useRef<HTMLDivElement>(null);
  const track = useRef<HTMLDivElement>(null);
  const state = useRef({
    place: 0,
    scroll: 0,
    hasty: false,
    take: false,
    first: start,
    tall: 0,
    timer: 0,
    columns: 0,
    grip: null as number | null,
  });
  const focused = useStore(focus);
  const selected = useStore(selection);

  const total = rows.total ?? 0;
  const columns = Math.max(2, Math.floor((box.width - 2 * PAD + GAP) / (size + GAP)));
  const width = Math.floor((box.width - 2 * PAD - GAP * (columns - 1)) / columns);
  const frame = Math.round(width * 0.78);
  const tall = frame + CAPTION + GAP;
  const lines = Math.ceil(total / columns);
  const map = new Mapping(Math.max(lines * tall + 2 * PAD - GAP, box.height), box.height);
  const s = state.current;

  const jump = (place: number) => {
    const element = scroller.current;
    if (!element) return;
    s.place = Math.max(0, Math.min(map.last, place));
    element.scrollTop = map.scroll(s.place);
    s.scroll = element.scrollTop;
    redraw();
  };

  const rest = () => {
    s.hasty = false;
    const element = scroller.current;
    if (element && map.full > LONGEST && s.grip === null) {
      element.scrollTop = map.scroll(s.place);
      s.scroll = element.scrollTop;
    }
    setLabel(s.grip !== null);
    onRest(s.first);
    redraw();
  };

  const scrolled = () => {
    const element = scroller.current;
    if (!element) return;
    const before = s.place;
    if (element.scrollTop !== s.scroll) s.place = map.moved(s.scroll, s.place, element.scrollTop);
    s.scroll = element.scrollTop;
    s.hasty = s.grip !== null || Math.abs(s.place - before) > box.height;
    if (s.hasty) setLabel(true);
    clearTimeout(s.timer);
    s.timer = setTimeout(() => latest.current.rest(), REST_MS);
    redraw();
  };

  const reveal = (index: number, take: boolean) => {
    s.take ||= take;
    const top = Math.floor(index / columns) * tall;
    if (top < s.place) jump(top);
    else if (top + tall + 2 * PAD > s.place + box.height) jump(top + tall + 2 * PAD - box.height);
    else redraw();
  };

  const latest = useRef({ rest });
  latest.current = { rest };
  control.current = { columns, rowsInSight: Math.max(1, Math.floor(box.height / tall)), reveal };

  useEffect(() => () => clearTimeout(s.timer), []);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return undefined;
    const measure = () => setBox({ width: element.clientWidth, height: element.clientHeight });
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    measure();
    return () => watch.disconnect();
  }, []);

  // Another size of tiles, window or view keeps the first row where it is.
  useLayoutEffect(() => {
    if (!box.width || rows.total === null) return;
    if (s.tall !== tall || s.columns !== columns) {
      s.tall = tall;
      s.columns = columns;
      jump(Math.floor(s.first / columns) * tall);
    } else if (s.place > map.last) jump(map.last);
  }, [tall, columns, box.width, rows.total]);

  const line = Math.max(0, Math.floor((s.place - PAD) / tall + 0.5)); // the first that is seen for the most part
  const settled = s.tall === tall && s.columns === columns;
  if (settled) s.first = Math.min(line * columns, Math.max(0, total - 1));
  const spare = Math.ceil(box.height / tall / 2);
  const firstLine = Math.max(0, line - spare);
  const lastLine = Math.min(lines - 1, line + Math.ceil(box.height / tall) + spare);

  useEffect(() => {
    if (rows.total === null) rows.want(start, start + 1);
    else if (settled) rows.want(firstLine * columns, (lastLine + 1) * columns - 1, s.hasty);
  });
  useLayoutEffect(() => {
    if (!s.take) return;
    const cell = scroller.current?.querySelector<HTMLElement>(`[data-index="${focused}"]`);
    if (cell) {
      s.take = false;
      cell.focus({ preventScroll: true });
    }
  });

  const click = (event: MouseEvent) => {
    const target = event.target as Element;
    const cell = target.closest<HTMLElement>("[data-index]");
    if (!cell) return;
    onClick(Number(cell.dataset.index), {
      tick: !!target.closest("[data-tick]"),
      shift: event.shiftKey,
      mod: event.ctrlKey || event.metaKey,
    });
  };

  const inSight = focused >= firstLine * columns && focused < (lastLine + 1) * columns && focused < total;
  const drawn = [];
  for (let y = firstLine; y <= lastLine; y++) {
    const cells = [];
    for (let x = 0; x < columns && y * columns + x < total; x++) {
      const index = y * columns + x;
      const row = rows.get(index);
      const isSelected = !!row && (selected.view === rows.query || selected.rows.has(row.id));
      const tabbable = index === (inSight ? focused : s.first);
      cells.push(
        <Tile
          key={index}
          row={row}
          index={index}
          column={x}
          selected={isSelected}
          tabbable={tabbable}
          compact={width < 130}
        />,
      );
    }
    drawn.push(
      <div key={y} role="row" aria-rowindex={y + 1} class="row">
        {cells}
      </div>,
    );
  }

  // The scroll bar is our own: it can be dragged on a phone too, and says where the reader is.
  const thumb = Math.max(40, (box.height * box.height) / map.full);
  const share = map.last ? s.place / map.last : 0;
  const drag = (event: PointerEvent) => {
    if (s.grip === null || !track.current) return;
    const { top, height } = track.current.getBoundingClientRect();
    const at = (event.clientY - top - s.grip) / Math.max(1, height - thumb);
    jump(Math.max(0, Math.min(1, at)) * map.last);
    scrolled();
  };
  const grab = (event: PointerEvent) => {
    if (!track.current || event.button) return;
    event.preventDefault();
    const { top, height } = track.current.getBoundingClientRect();
    const within = event.clientY - top - share * (height - thumb);
    s.grip = within >= 0 && within <= thumb ? within : thumb / 2;
    track.current.setPointerCapture(event.pointerId);
    drag(event);
  };
  const release = () => {
    s.grip = null;
    rest();
  };
  const placed = Math.min(s.first + 1, total);
  const layer = `translateY(${PAD + firstLine * tall - s.place + s.scroll}px)`;
  return (
    <div class="grid">
      <div class="scroller" ref={scroller} onScroll={scrolled} id="pictures">
        <div class="long" style={{ height: `${map.height}px` }}>
          <div
            class={`layer fit-${fit}`}
            role="grid"
            aria-label="Pictures"
            aria-multiselectable="true"
            aria-rowcount={lines}
            aria-colcount={columns}
            aria-busy={rows.total === null}
            onClick={click}
            style={{ transform: layer, "--w": `${width}px`, "--h": `${frame}px` } as Record<string, string>}
          >
            {drawn.length ? (
              drawn
            ) : (
              <div role="row">
                <div role="gridcell" tabIndex={0} class="sr">
                  {rows.total === null ? "Loading" : "No pictures"}
                </div>
              </div>
            )}
          </div>
        </div>
      </div>
      {map.last > 0 && total > 0 && (
        <div
          class={s.grip !== null ? "bar held" : "bar"}
          ref={track}
          role="scrollbar"
          aria-label="Place in the view"
          aria-controls="pictures"
          aria-orientation="vertical"
          aria-valuemin={1}
          aria-valuemax={total}
          aria-valuenow={placed}
          onPointerDown={grab}
          onPointerMove={drag}
          onPointerUp={release}
          onPointerCancel={release}
        >
          <div
            class="thumb-bar"
            style={{ height: `${thumb}px`, transform: `translateY(${share * Math.max(0, box.height - thumb)}px)` }}
          >
            {label && (
              <span class="where">
                {whole(placed)} of {whole(total)}
              </span>
            )}
          </div>
        </div>
      )}
    </div>
  );
}
