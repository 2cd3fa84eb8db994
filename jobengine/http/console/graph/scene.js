// Paints a run's graph on a canvas: what is in sight, as fine as the zoom lets one see.
//
// Nodes show key, state and time from DETAILED on, their key alone from NAMED on, and below that a
// plain box in the colour of their state, with its sign from SIGNED on. Everything is painted anew at each step; what is out of
// sight costs a comparison.
//
// Not here: where things are (`layout`), what moves the view (`graph_view`).

import { span } from "../format.js";
import { LOOKS, lookOf } from "./looks.js";
import { NODE_HEIGHT, NODE_WIDTH } from "./placement.js";

const DETAILED = 0.62;
const NAMED = 0.3;
const SIGNED = 0.15;
const CURVED = 0.1;
const ARROWED = 0.34;
const SIGN_WIDTH = 30;
const HALF = NODE_HEIGHT / 2;
const signs = new Map(Object.entries(LOOKS).map(([look, { path }]) => [look, new Path2D(path)]));

export class Scene {
  /**
   * @param {import("./run_graph.js").RunGraph} graph
   * @param {import("./layout.js").Layout} layout
   */
  constructor(graph, layout) {
    this.graph = graph;
    this.layout = layout;
    this.boxes = boxesOf(layout);
    this.texts = new Map();
  }

  /**
   * @param {CanvasRenderingContext2D} pen in device pixels
   * @param {{x: number, y: number, scale: number, width: number, height: number}} view in CSS pixels
   * @param {object} shown `palette`, `ratio` of device pixels, `selected`, `focused`, `found`, `nowMs`
   */
  paint(pen, view, shown) {
    const { ratio, palette } = shown;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = palette.background;
    pen.fillRect(0, 0, view.width * ratio, view.height * ratio);
    const scale = view.scale * ratio;
    pen.setTransform(scale, 0, 0, scale, view.x * ratio, view.y * ratio);
    const sight = {
      left: -view.x / view.scale, top: -view.y / view.scale,
      right: (view.width - view.x) / view.scale, bottom: (view.height - view.y) / view.scale,
    };
    this.#edges(pen, view, sight, shown);
    this.#nodes(pen, view, sight, shown);
  }

  /** The node at a place of the drawing, or -1. */
  nodeAt(x, y) {
    const { layout } = this;
    for (let at = 0; at < layout.x.length; at += 1) {
      const inside = x >= layout.x[at] && x <= layout.x[at] + NODE_WIDTH && Math.abs(y - layout.y[at]) <= HALF;
      if (inside) return at;
    }
    return -1;
  }

  #edges(pen, view, sight, shown) {
    const { graph, boxes } = this;
    const groups = { plain: [], critical: [], near: [] };
    for (let edge = 0; edge < graph.edges.length / 2; edge += 1) {
      const box = 4 * edge;
      if (boxes[box] > sight.right || boxes[box + 2] < sight.left) continue;
      if (boxes[box + 1] > sight.bottom || boxes[box + 3] < sight.top) continue;
      const touched = graph.edges[2 * edge] === shown.selected || graph.edges[2 * edge + 1] === shown.selected;
      const group = touched ? "near" : graph.criticalEdges.has(edge) ? "critical" : "plain";
      groups[group].push(edge);
    }
    const { palette } = shown;
    const thin = Math.max(1.2, 0.8 / view.scale);
    pen.globalAlpha = shown.selected >= 0 ? 0.35 : 1;
    this.#strokes(pen, view, sight, groups.plain, palette.edge, thin, false);
    this.#strokes(pen, view, sight, groups.critical, palette.critical, Math.max(3, 1.8 / view.scale), true);
    pen.globalAlpha = 1;
    this.#strokes(pen, view, sight, groups.near, palette.selected, Math.max(2.4, 1.6 / view.scale), true);
  }

  #strokes(pen, view, sight, edges, colour, width, whole) {
    if (!edges.length) return;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = width;
    const curved = view.scale >= CURVED;
    pen.beginPath();
    for (const edge of edges) this.#trace(pen, edge, curved, sight, whole);
    pen.stroke();
    if (view.scale < ARROWED) return;
    pen.beginPath();
    for (const edge of edges) this.#arrow(pen, edge, sight, whole);
    pen.fill();
  }

  /**
   * Of an edge the parts that are in sight: a curve, a level line, a curve, and so on. Where nodes stand
   * side by side, only a `whole` edge goes on to its own node; the lines of all would look like a chain.
   */
  #trace(pen, edge, curved, sight, whole) {
    const { offsets, points } = this.layout;
    const [first, last] = whole ? [offsets[edge], offsets[edge + 1] - 2] : this.#between(edge);
    let level = false;
    for (let at = first; at < last; at += 2, level = !level) {
      const [x, y, toX, toY] = [points[at], points[at + 1], points[at + 2], points[at + 3]];
      if (x > sight.right || toX < sight.left) continue;
      if (Math.min(y, toY) > sight.bottom || Math.max(y, toY) < sight.top) continue;
      if (level) {
        pen.moveTo(Math.max(x, sight.left), y);
        pen.lineTo(Math.min(toX, sight.right), y);
      } else if (curved) {
        const bend = (toX - x) / 2;
        pen.moveTo(x, y);
        pen.bezierCurveTo(x + bend, y, toX - bend, toY, toX, toY);
      } else {
        pen.moveTo(x, y);
        pen.lineTo(toX, toY);
      }
    }
  }

  /** Where an edge leaves the level of its source, and where it arrives at that of its target. */
  #between(edge) {
    const { offsets, points } = this.layout;
    let [first, last] = [offsets[edge], offsets[edge + 1] - 2];
    if (last - first > 2 && points[first] === points[first + 2]) first += 4;
    if ((last - first) % 4 === 0) last -= 2;
    return [first, last];
  }

  #arrow(pen, edge, sight, whole) {
    const { offsets, points } = this.layout;
    const last = whole ? offsets[edge + 1] - 2 : this.#between(edge)[1];
    const [x, y] = [points[last], points[last + 1]];
    if (x < sight.left || x - 8 > sight.right || y + 4 < sight.top || y - 4 > sight.bottom) return;
    pen.moveTo(x, y);
    pen.lineTo(x - 8, y - 4);
    pen.lineTo(x - 8, y + 4);
    pen.closePath();
  }

  #nodes(pen, view, sight, shown) {
    const { layout, graph } = this;
    const paint = view.scale >= NAMED ? this.#card : this.#tile;
    for (let at = 0; at < layout.x.length; at += 1) {
      const x = layout.x[at], y = layout.y[at];
      if (x > sight.right || x + NODE_WIDTH < sight.left || y - HALF > sight.bottom || y + HALF < sight.top) continue;
      paint.call(this, pen, view, shown, graph.nodes[at], x, y - HALF);
      if (at === shown.selected || at === shown.focused) this.#ring(pen, view, shown, at, x, y - HALF);
    }
  }

  /** A node from afar. */
  #tile(pen, view, { palette, found }, node, x, y) {
    if (node.onCriticalPath) {
      const rim = Math.max(4, 1.5 / view.scale);
      pen.fillStyle = palette.critical;
      pen.fillRect(x - rim, y - rim, NODE_WIDTH + 2 * rim, NODE_HEIGHT + 2 * rim);
    }
    pen.globalAlpha = !found || found.has(node.key) ? 1 : 0.2;
    pen.fillStyle = palette[`look-${lookOf(node)}`];
    pen.fillRect(x, y, NODE_WIDTH, NODE_HEIGHT);
    if (view.scale >= SIGNED) this.#sign(pen, palette, lookOf(node), x + NODE_WIDTH / 2, y + HALF, 2.3);
    pen.globalAlpha = 1;
  }

  #card(pen, view, shown, node, x, y) {
    const { palette, found } = shown;
    const look = lookOf(node);
    pen.globalAlpha = !found || found.has(node.key) ? 1 : 0.25;
    pen.beginPath();
    pen.roundRect(x, y, NODE_WIDTH, NODE_HEIGHT, 8);
    pen.fillStyle = palette.surface;
    pen.fill();
    pen.lineWidth = node.onCriticalPath ? 3.5 : 1.5;
    pen.strokeStyle = node.onCriticalPath ? palette.critical : palette[`look-${look}`];
    pen.stroke();
    pen.beginPath();
    pen.roundRect(x, y, SIGN_WIDTH, NODE_HEIGHT, [8, 0, 0, 8]);
    pen.fillStyle = palette[`look-${look}`];
    pen.fill();
    this.#sign(pen, palette, look, x + SIGN_WIDTH / 2, y + HALF, 1.25);
    this.#words(pen, view, shown, node, look, x + SIGN_WIDTH + 9, y);
    pen.globalAlpha = 1;
  }

  #sign(pen, palette, look, x, y, size) {
    pen.save();
    pen.translate(x - 8 * size, y - 8 * size);
    pen.scale(size, size);
    pen.lineWidth = 2;
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = pen.fillStyle = palette.onLook;
    if (LOOKS[look].filled) pen.fill(signs.get(look));
    else pen.stroke(signs.get(look));
    pen.restore();
  }

  #words(pen, view, shown, node, look, x, y) {
    const { palette } = shown;
    const room = NODE_WIDTH - SIGN_WIDTH - 18;
    const detailed = view.scale >= DETAILED;
    pen.textBaseline = "middle";
    pen.fillStyle = palette.text;
    pen.font = `600 ${detailed ? 13 : 16}px ${palette.font}`;
    pen.fillText(this.#fitted(pen, node.key, room), x, y + (detailed ? 15 : HALF));
    if (!detailed) return;
    pen.fillStyle = palette.muted;
    pen.font = `12px ${palette.font}`;
    pen.fillText(this.#fitted(pen, wordsOf(node, look, shown.nowMs), room), x, y + 31);
    const share = node.state === "running" && node.estimateMs
      ? Math.min(1, (shown.nowMs - Date.parse(node.startedAt)) / node.estimateMs) : 0;
    if (share > 0) {
      pen.fillStyle = palette[`look-${look}`];
      pen.fillRect(x - 9, y + NODE_HEIGHT - 4, (NODE_WIDTH - SIGN_WIDTH - 4) * share, 3);
    }
  }

  #ring(pen, view, { palette, selected, focused }, at, x, y) {
    const gap = Math.max(4, 3 / view.scale);
    pen.beginPath();
    pen.roundRect(x - gap, y - gap, NODE_WIDTH + 2 * gap, NODE_HEIGHT + 2 * gap, 10);
    pen.lineWidth = Math.max(2.5, 2 / view.scale);
    pen.strokeStyle = palette.selected;
    pen.setLineDash(at === focused && at !== selected ? [6 / view.scale, 4 / view.scale] : []);
    pen.stroke();
    pen.setLineDash([]);
  }

  /** A text cut in its middle to the room it has, since keys differ at their ends; measured once. */
  #fitted(pen, text, room) {
    const known = `${pen.font}\n${text}`;
    let fitted = this.texts.get(known);
    if (fitted === undefined) {
      fitted = text;
      for (let kept = text.length - 1; kept > 1 && pen.measureText(fitted).width > room; kept -= 1) {
        const tail = Math.floor(kept / 2);
        fitted = `${text.slice(0, kept - tail)}…${text.slice(-tail)}`;
      }
      if (this.texts.size > 20_000) this.texts.clear();
      this.texts.set(known, fitted);
    }
    return fitted;
  }
}

/** The second line of a node: its state and what there is to say of it. */
export function wordsOf(node, look, nowMs) {
  const words = [node.kept ? "kept" : look === "waiting" ? `${node.kind} waits` : LOOKS[look].label];
  if (node.state === "running" && node.startedAt) words.push(span((nowMs - Date.parse(node.startedAt)) / 1000));
  else if (node.error) words.push(node.error);
  else if (node.runMs !== undefined && node.kind === "job") words.push(span(node.runMs / 1000));
  else if (node.kind !== "job" && look !== "waiting") words.push(node.kind.replace("_", " "));
  if (node.attempt > 1) words.push(`attempt ${node.attempt}`);
  return words.join(" · ");
}

function boxesOf({ offsets, points }) {
  const boxes = new Float32Array(4 * (offsets.length - 1));
  for (let edge = 0; edge + 1 < offsets.length; edge += 1) {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let at = offsets[edge]; at < offsets[edge + 1]; at += 2) {
      left = Math.min(left, points[at]);
      right = Math.max(right, points[at]);
      top = Math.min(top, points[at + 1]);
      bottom = Math.max(bottom, points[at + 1]);
    }
    boxes.set([left, top, right, bottom], 4 * edge);
  }
  return boxes;
}
