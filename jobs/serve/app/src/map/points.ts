// Points of the map: drawn by WebGL2, in each frame as many as it has time for, until all are there or the reader moves.
//
// Libraries that draw so many points make code from text, which the policy of this page forbids (regl), or are larger
// than all the rest of the app (deck.gl, Embedding Atlas).

export interface Sight {
  x: number; // of the map, in the middle of the screen
  y: number;
  scale: number; // pixels for the side of the map
}

export type Colour = [number, number, number]; // 0 to 1

export const NOWHERE = 65535; // in the place of a coordinate
export const SIDE = 65534; // the largest coordinate
const FIRST = 100_000; // points that are drawn in a frame at first
const LEAST = 10_000; // and at least
const SLOW_MS = 25; // between two frames: then they were too many

const VERTEX = `#version 300 es
precision highp float;
in vec2 place;
in float code;
in float held;
uniform vec2 middle;
uniform vec2 spread;
uniform float size;
uniform float wanted;
uniform float opacity;
uniform float scaled;
uniform vec3 colours[22];
uniform vec3 faint;
out vec4 colour;
void main() {
  vec2 at = (place * (65535.0 / 65534.0) - middle) * spread;
  gl_Position = held == wanted ? vec4(at, wanted > 0.5 ? 0.0 : 0.5, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size;
  int number = int(code + 0.5);
  float along = clamp((code - 1.0) / 253.0, 0.0, 1.0) * 20.0;
  int stop = int(along);
  vec3 shade = mix(colours[1 + stop], colours[min(21, 2 + stop)], along - float(stop));
  vec3 own = scaled > 0.5 && number > 0 ? shade : colours[min(number, 21)];
  colour = wanted > 0.5 ? vec4(own, opacity) : vec4(faint, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour;
uniform float size;
out vec4 painted;
void main() {
  float away = length(gl_PointCoord - 0.5) * size;
  float cover = size < 2.5 ? 1.0 : clamp(size * 0.5 - away + 0.5, 0.0, 1.0);
  float alpha = colour.a * cover;
  if (alpha < 0.004) discard;
  painted = vec4(colour.rgb * alpha, alpha);
}`;

/** Raises where the browser has no WebGL2. */
export class Points {
  /** The rows of the points, in an order in which any first part is a fair sample of all. */
  readonly rows: Uint32Array;
  private readonly gl: WebGL2RenderingContext;
  private readonly program: WebGLProgram;
  private readonly buffers: [WebGLBuffer, WebGLBuffer, WebGLBuffer];
  private readonly places = new Map<string, WebGLUniformLocation | null>();
  private part = FIRST; // points that a frame has time for
  private done = 0; // points that are drawn
  private last = 0; // when the last part was drawn; 0 where nothing waited for it
  private all = true; // whether the view holds every point

  constructor(
    readonly canvas: HTMLCanvasElement,
    readonly positions: Uint16Array,
  ) {
    const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser shows no map: it has no WebGL2.");
    this.gl = gl;
    this.rows = spread(positions);
    this.program = linked(gl);
    gl.useProgram(this.program);
    this.buffers = [0, 1, 2].map(() => gl.createBuffer()) as [WebGLBuffer, WebGLBuffer, WebGLBuffer];
    const both = new Uint32Array(positions.buffer, positions.byteOffset, positions.length / 2);
    const own = new Uint32Array(this.rows.length);
    for (let i = 0; i < own.length; i++) own[i] = both[this.rows[i]!]!;
    this.fill(0, "place", own, 2, gl.UNSIGNED_SHORT, true);
    this.fill(1, "code", new Uint8Array(this.rows.length), 1, gl.UNSIGNED_BYTE, false);
    this.fill(2, "held", new Uint8Array(this.rows.length).fill(1), 1, gl.UNSIGNED_BYTE, false);
    gl.enable(gl.DEPTH_TEST); // what the view holds lies above the rest, in whichever frame it is drawn
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** codes: of each row; see the answer map/colours. */
  colour(codes: Uint8Array): void {
    this.again(1, this.dealt(codes));
  }

  /** held: of each row, 1 where the view holds it. */
  hold(held: Uint8Array): void {
    const own = this.dealt(held);
    this.all = own.every((one) => one === 1);
    this.again(2, own);
  }

  /** Begins to draw. palette: of 22 colours; scaled: those after the first are the stops of a scale, see colours.ts.
  Returns whether there is more to draw, for more(). */
  draw(sight: Sight, palette: Colour[], faint: Colour, scaled: boolean): boolean {
    const { gl, canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return false;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across) canvas.width = across;
    if (canvas.height !== down) canvas.height = down;
    gl.viewport(0, 0, across, down);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform2f(this.at("middle"), sight.x, sight.y);
    gl.uniform2f(this.at("spread"), (2 * sight.scale) / width, (-2 * sight.scale) / height);
    gl.uniform1f(this.at("size"), sizeOf(this.rows.length, sight.scale, width * height) * ratio);
    gl.uniform1f(this.at("opacity"), this.rows.length > 200_000 ? 0.7 : 0.85);
    gl.uniform1f(this.at("scaled"), scaled ? 1 : 0);
    gl.uniform3fv(this.at("colours"), palette.flat());
    gl.uniform3fv(this.at("faint"), faint);
    this.done = 0;
    return this.more();
  }

  /** Draws the next part. Returns whether there is more. */
  more(): boolean {
    const { gl } = this;
    this.pace();
    const count = Math.min(this.part, this.rows.length - this.done);
    for (const wanted of this.all ? [1] : [1, 0]) {
      gl.uniform1f(this.at("wanted"), wanted);
      if (count > 0) gl.drawArrays(gl.POINTS, this.done, count);
    }
    this.done += count;
    if (this.done < this.rows.length) return true;
    this.last = 0;
    return false;
  }

  /** Fits how many points are drawn at once to how long the last frame took. */
  private pace(): void {
    const now = performance.now();
    const took = this.last && now - this.last;
    this.last = now;
    if (took) this.part = Math.max(LEAST, Math.floor(this.part * (took > SLOW_MS ? 0.5 : 1.4)));
  }

  close(): void {
    for (const buffer of this.buffers) this.gl.deleteBuffer(buffer);
    this.gl.deleteProgram(this.program);
  }

  /** Bytes of rows in the order of the points. */
  private dealt(bytes: Uint8Array): Uint8Array {
    const own = new Uint8Array(this.rows.length);
    for (let i = 0; i < own.length; i++) own[i] = bytes[this.rows[i]!]!;
    return own;
  }

  private at(name: string): WebGLUniformLocation | null {
    if (!this.places.has(name)) this.places.set(name, this.gl.getUniformLocation(this.program, name));
    return this.places.get(name) ?? null;
  }

  private fill(
    n: 0 | 1 | 2,
    name: string,
    data: Uint8Array | Uint32Array,
    size: number,
    type: number,
    unit: boolean,
  ): void {
    const { gl } = this;
    this.again(n, data);
    const place = gl.getAttribLocation(this.program, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, unit, 0, 0);
  }

  private again(n: 0 | 1 | 2, data: Uint8Array | Uint32Array): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[n]);
    gl.bufferData(gl.ARRAY_BUFFER, data as unknown as ArrayBuffer, gl.STATIC_DRAW);
  }
}

/** The diameter of a point in pixels: so that many do not hide one another, and few can be seen. */
export function sizeOf(count: number, scale: number, area: number): number {
  const far = Math.max(1.1, Math.min(7, Math.sqrt((0.35 * area) / Math.max(1, count))));
  const zoom = Math.max(1, scale / Math.sqrt(area));
  return Math.min(18, far * Math.sqrt(zoom));
}

/** The rows that have a place, dealt out by a long step. */
function spread(positions: Uint16Array): Uint32Array {
  const there: number[] = [];
  for (let row = 0; row < positions.length / 2; row++) if (positions[2 * row] !== NOWHERE) there.push(row);
  const count = there.length;
  let step = Math.max(1, Math.floor(count * 0.618));
  while (common(step, count) > 1) step++;
  const rows = new Uint32Array(count);
  for (let i = 0, at = 0; i < count; i++, at = (at + step) % count) rows[i] = there[at]!;
  return rows;
}

const common = (a: number, b: number): number => (b ? common(b, a % b) : a);

function linked(gl: WebGL2RenderingContext): WebGLProgram {
  const program = gl.createProgram();
  const sources: [number, string][] = [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ];
  for (const [kind, text] of sources) {
    const shader = gl.createShader(kind);
    if (!shader) throw new Error("The graphics of this browser do not answer.");
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS))
    throw new Error(`The graphics of this browser refuse the map: ${gl.getProgramInfoLog(program) ?? ""}`);
  return program;
}
