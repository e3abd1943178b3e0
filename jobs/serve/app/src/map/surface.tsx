// The surface of the map: the points, the lasso over them, and what fingers, the mouse and the wheel do to both.

import { useEffect, useRef, useState } from "preact/hooks";
import { words } from "../state";
import { OTHERS, faint, palette, ramp, single } from "./colours";
import type { Colour, Sight } from "./points";
import { NOWHERE, Points, SIDE } from "./points";
import type { Spot } from "./shapes";
import { Finder, spotsOf, textOf } from "./shapes";

const CLICK = 5; // pixels that a click may move
const REACH = 10; // pixels from a point at which the pointer means it
const LEGEND = 244; // pixels at the right that are left to what the colours mean
const DEEPEST = 400; // times the whole map

export interface SurfaceControl {
  zoom: (by: number) => void;
  pan: (across: number, down: number) => void;
  whole: () => void;
  inSight: () => string | null; // what the screen shows, as a lasso
}

export interface Pointed {
  row: number;
  left: number;
  top: number;
}

interface Props {
  positions: Uint16Array;
  codes: Uint8Array | null; // null: all of one colour
  scaled: boolean; // whether they are of a scale
  held: Uint8Array | null; // null: all
  lasso: string | null;
  lassoing: boolean;
  dark: boolean;
  label: string;
  control: { current: SurfaceControl | null };
  onPoint: (pointed: Pointed | null) => void;
  onClick: (row: number) => void;
  onLasso: (text: string | null) => void;
}

export function Surface(props: Props) {
  const { positions, codes, held, lasso, lassoing, dark, label, control } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const shape = useRef<SVGPolygonElement>(null);
  const trace = useRef<SVGPolylineElement>(null);
  const points = useRef<Points | null>(null);
  const finder = useRef<Finder | null>(null);
  const sight = useRef<Sight>({ x: 0.5, y: 0.5, scale: 0 });
  const least = useRef(1);
  const path = useRef<Spot[] | null>(null);
  const frame = useRef(0);
  const latest = useRef(props);
  const [fault, setFault] = useState<string | null>(null);
  latest.current = props;

  const size = () => [box.current?.clientWidth ?? 1, box.current?.clientHeight ?? 1] as const;
  const screen = ([x, y]: Spot): Spot => {
    const [width, height] = size();
    const { x: cx, y: cy, scale } = sight.current;
    return [(x - cx) * scale + width / 2, (y - cy) * scale + height / 2];
  };
  const spot = (left: number, top: number): Spot => {
    const [width, height] = size();
    const { x, y, scale } = sight.current;
    return [x + (left - width / 2) / scale, y + (top - height / 2) / scale];
  };
  const lines = (spots: Spot[]) => spots.map((one) => screen(one).join(",")).join(" ");

  const draw = () => {
    cancelAnimationFrame(frame.current);
    const go = (work: () => boolean | undefined) => {
      frame.current = requestAnimationFrame(() => {
        if (work()) go(() => points.current?.more());
      });
    };
    go(() => {
      const { lasso: text, dark: isDark, codes: own, scaled } = latest.current;
      const colours: Colour[] = scaled ? ramp(isDark) : palette(isDark);
      if (!own) colours[0] = single(isDark);
      shape.current?.setAttribute("points", text && !path.current ? lines(spotsOf(text)) : "");
      trace.current?.setAttribute("points", path.current ? lines(path.current) : "");
      return points.current?.draw(sight.current, colours, faint(isDark), scaled);
    });
  };

  const whole = () => {
    const [width, height] = size();
    const [low, high] = extent(positions);
    const margin = Math.min(width, height) < 500 ? 16 : 32;
    const [across, down] = [Math.max(1e-3, high[0] - low[0]), Math.max(1e-3, high[1] - low[1])];
    const right = width > 800 ? LEGEND : margin;
    const scale = Math.max(1, Math.min((width - margin - right) / across, (height - 2 * margin) / down));
    const aside = (right - margin) / 2 / scale;
    sight.current = { x: (low[0] + high[0]) / 2 + aside, y: (low[1] + high[1]) / 2, scale };
    least.current = sight.current.scale;
    draw();
  };
  const zoom = (by: number, left = size()[0] / 2, top = size()[1] / 2) => {
    if (!sight.current.scale) return; // nothing is shown yet
    const [x, y] = spot(left, top);
    const scale = Math.min(least.current * DEEPEST, Math.max(least.current * 0.5, sight.current.scale * by));
    const [width, height] = size();
    sight.current = { scale, x: x - (left - width / 2) / scale, y: y - (top - height / 2) / scale };
    draw();
  };
  const pan = (across: number, down: number) => {
    if (!sight.current.scale) return;
    const { x, y, scale } = sight.current;
    const kept = (n: number) => Math.min(1.2, Math.max(-0.2, n));
    sight.current = { scale, x: kept(x - across / scale), y: kept(y - down / scale) };
    draw();
  };

  useEffect(() => {
    if (!canvas.current) return undefined;
    try {
      points.current = new Points(canvas.current, positions);
    } catch (error) {
      setFault(words(error));
      return undefined;
    }
    finder.current = new Finder(positions, points.current.rows);
    if (!sight.current.scale) whole(); // at once: a hand may be faster than the observer
    const watch = new ResizeObserver(() => (sight.current.scale ? draw() : whole()));
    if (box.current) watch.observe(box.current);
    const turn = (event: WheelEvent) => {
      event.preventDefault();
      const area = canvas.current?.getBoundingClientRect();
      const lines = event.deltaMode ? 30 : 1;
      if (area) zoom(Math.exp(-event.deltaY * lines * 0.0016), event.clientX - area.left, event.clientY - area.top);
    };
    const at = canvas.current;
    at.addEventListener("wheel", turn, { passive: false });
    return () => {
      watch.disconnect();
      at.removeEventListener("wheel", turn);
      cancelAnimationFrame(frame.current);
      points.current?.close();
      points.current = null;
    };
  }, [positions]);
  useEffect(() => {
    points.current?.colour(codes ?? new Uint8Array(positions.length / 2));
    draw();
  }, [codes, positions]);
  useEffect(() => {
    points.current?.hold(held ?? new Uint8Array(positions.length / 2).fill(1));
    draw();
  }, [held, positions]);
  useEffect(() => draw(), [lasso, dark]);
  control.current = {
    zoom,
    pan,
    whole,
    inSight: () => {
      if (!sight.current.scale) return null;
      const [width, height] = size();
      return textOf([spot(0, 0), spot(width, 0), spot(width, height), spot(0, height)]);
    },
  };

  const fingers = useRef(new Map<number, Spot>());
  const began = useRef<{ at: Spot; moved: boolean } | null>(null);
  const of = (event: PointerEvent): Spot => {
    const area = box.current?.getBoundingClientRect();
    return [event.clientX - (area?.left ?? 0), event.clientY - (area?.top ?? 0)];
  };
  const meant = (at: Spot, reach = REACH) =>
    finder.current?.near(spot(...at), reach / sight.current.scale, latest.current.held) ?? null;
  const down = (event: PointerEvent) => {
    if (event.button || !sight.current.scale) return;
    const at = of(event);
    (event.currentTarget as Element).setPointerCapture(event.pointerId);
    fingers.current.set(event.pointerId, at);
    if (fingers.current.size > 1) {
      path.current = null;
      began.current = null;
    } else {
      began.current = { at, moved: false };
      if (lassoing || event.shiftKey) path.current = [spot(...at)];
    }
    props.onPoint(null);
  };
  const move = (event: PointerEvent) => {
    const at = of(event);
    const last = fingers.current.get(event.pointerId);
    if (!last) {
      if (event.pointerType !== "mouse") return;
      const row = meant(at);
      const place = row === null ? null : screen([positions[2 * row]! / SIDE, positions[2 * row + 1]! / SIDE]);
      props.onPoint(row !== null && place ? { row, left: place[0], top: place[1] } : null);
      return;
    }
    const start = began.current;
    if (start && Math.hypot(at[0] - start.at[0], at[1] - start.at[1]) > CLICK) start.moved = true;
    if (fingers.current.size > 1) {
      const other = [...fingers.current].find(([id]) => id !== event.pointerId)?.[1] ?? at;
      const apart = (one: Spot) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
      zoom(apart(at) / apart(last), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
      pan((at[0] - last[0]) / 2, (at[1] - last[1]) / 2);
    } else if (path.current) {
      path.current.push(spot(...at));
      draw();
    } else if (start?.moved) pan(at[0] - last[0], at[1] - last[1]);
    fingers.current.set(event.pointerId, at);
  };
  const up = (event: PointerEvent) => {
    if (!fingers.current.delete(event.pointerId)) return;
    const start = began.current;
    const drawn = path.current;
    began.current = path.current = null;
    if (drawn && start?.moved) props.onLasso(textOf(drawn));
    else if (start && !start.moved && event.type === "pointerup") {
      const row = meant(start.at, event.pointerType === "mouse" ? REACH : 2 * REACH);
      if (row !== null) props.onClick(row);
    }
    draw();
  };
  if (fault)
    return (
      <p class="error" role="alert">
        {fault}
      </p>
    );
  return (
    <div ref={box} class={lassoing ? "surface lassoing" : "surface"}>
      <canvas
        ref={canvas}
        role="img"
        aria-label={label}
        onPointerDown={down}
        onPointerMove={move}
        onPointerUp={up}
        onPointerCancel={up}
        onPointerLeave={() => props.onPoint(null)}
      />
      <svg class="lasso" aria-hidden="true">
        <polygon ref={shape} />
        <polyline ref={trace} />
      </svg>
    </div>
  );
}

function extent(positions: Uint16Array): [Spot, Spot] {
  const low: Spot = [SIDE, SIDE];
  const high: Spot = [0, 0];
  for (let i = 0; i < positions.length; i += 2) {
    const [x, y] = [positions[i]!, positions[i + 1]!];
    if (x === NOWHERE) continue;
    if (x < low[0]) low[0] = x;
    if (x > high[0]) high[0] = x;
    if (y < low[1]) low[1] = y;
    if (y > high[1]) high[1] = y;
  }
  return [
    [low[0] / SIDE, low[1] / SIDE],
    [high[0] / SIDE, high[1] / SIDE],
  ];
}

/** The colour of a code. */
export const colourOf = (code: number, dark: boolean): Colour => palette(dark)[Math.min(code, OTHERS)]!;
