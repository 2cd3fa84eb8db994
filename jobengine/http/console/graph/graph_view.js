// A run's graph on the page: a canvas that is moved, scaled, searched, and gone through by keys.
//
// Beside the canvas stands nothing for each node: who cannot see it goes through the nodes by arrow
// keys, each of which is said in words, or reads the table of the same nodes.
//
// I1  Changed states are painted with the next frame; nodes keep their places.
// I2  Where somebody has moved the view, nothing but the buttons and keys moves it again.

import { Backdrop } from "./backdrop.js";
import { onGestures } from "./gestures.js";
import { onTheme, paletteOf } from "./palette.js";
import { Minimap } from "./minimap.js";
import { NODE_HEIGHT, NODE_WIDTH } from "./placement.js";
import { lookOf } from "./looks.js";
import { Scene, wordsOf } from "./scene.js";
import { nextNode } from "./walking.js";

const SCALE_MAX = 2.5;
const SCALE_FIT_MAX = 1.1;
const SCALE_READABLE = 0.75;
const PADDING = 28;
const PAN_PX = 80;
export const STEP = 1.3;
const TICK_MS = 1_000;
const SHARPEN_MS = 120;
const INSTRUCTIONS =
  "Arrow keys go along edges and within a level, Enter opens the node, plus and minus scale, 0 shows all.";

export class GraphView {
  /**
   * @param {HTMLElement} host is filled, and emptied by `end`
   * @param {{onSelect: (key: string | null) => void, nowMs: () => number}} given
   */
  constructor(host, { onSelect, nowMs }) {
    this.host = host;
    this.onSelect = onSelect;
    this.nowMs = nowMs;
    this.view = { x: 0, y: 0, scale: 1, width: 0, height: 0 };
    this.scene = null;
    this.selected = -1;
    this.focused = -1;
    this.found = null;
    this.moved = false;
    this.due = 0;
    this.sharpening = 0;
    this.backdrop = new Backdrop();
    this.ending = new AbortController();
    this.#build();
    this.#listen();
  }

  /** Show a graph; the view stays where it is if somebody has chosen it. */
  show(graph, layout) {
    const kept = (at) => graph.byKey.get(this.scene?.graph.nodes[at]?.key) ?? -1;
    [this.selected, this.focused] = [kept(this.selected), kept(this.focused)];
    this.scene = new Scene(graph, layout);
    this.stage.setAttribute("aria-label", `Graph of ${graph.nodes.length} nodes on ${graph.levels} levels, ${graph.criticalPath.length} of them on the critical path. ${INSTRUCTIONS}`);
    if (!this.moved) this.fit();
    this.changed();
  }

  /** States have changed. */
  changed() {
    this.stale = true;
    this.#soon();
  }

  /** The keys that are searched for, or null. */
  find(keys) {
    this.found = keys;
    this.#soon();
  }

  select(key) {
    const at = key === null ? -1 : this.scene?.graph.byKey.get(key) ?? -1;
    if (at === this.selected) return;
    this.selected = at;
    this.#soon();
  }

  /** Bring a node into sight, at a scale at which it can be read. */
  reveal(key) {
    const at = this.scene?.graph.byKey.get(key) ?? -1;
    if (at < 0) return;
    this.focused = at;
    this.moved = true;
    this.view.scale = Math.max(this.view.scale, SCALE_READABLE);
    this.#centre(this.scene.layout.x[at] + NODE_WIDTH / 2, this.scene.layout.y[at]);
  }

  fit() {
    if (!this.scene || !this.view.width) return;
    const { view, scene: { layout: { width, height } } } = this;
    view.scale = Math.min((view.width - 2 * PADDING) / width, (view.height - 2 * PADDING) / height, SCALE_FIT_MAX);
    this.moved = false;
    this.#centre(width / 2, height / 2);
  }

  /** Scale about a point of the stage, its middle where none is given. */
  zoom(factor, x = this.view.width / 2, y = this.view.height / 2) {
    const { view } = this;
    const scale = Math.max(this.#scaleMin(), Math.min(SCALE_MAX, view.scale * factor));
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    this.moved = true;
    this.#soon();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.moved = true;
    this.#soon();
  }

  /** Where a node is on the stage, in CSS pixels. */
  boxOf(key) {
    const at = this.scene.graph.byKey.get(key);
    const { layout } = this.scene;
    const { x, y, scale } = this.view;
    return {
      x: layout.x[at] * scale + x, y: (layout.y[at] - NODE_HEIGHT / 2) * scale + y,
      width: NODE_WIDTH * scale, height: NODE_HEIGHT * scale,
    };
  }

  end() {
    this.ending.abort();
    this.sizes.disconnect();
    clearInterval(this.ticking);
    clearTimeout(this.sharpening);
    cancelAnimationFrame(this.due);
    this.host.replaceChildren();
  }

  #build() {
    this.stage = made("div", "graph-stage", { tabindex: "0", role: "application", "aria-roledescription": "graph" });
    this.canvas = made("canvas", "graph-canvas", { "aria-hidden": "true" });
    this.tip = made("div", "graph-tip", { role: "tooltip", hidden: "" });
    this.said = made("div", "visually-hidden", { role: "status" });
    this.minimap = new Minimap((x, y) => { this.moved = true; this.#centre(x, y); }, this.ending.signal);
    this.stage.append(this.canvas);
    this.host.append(this.stage, this.minimap.canvas, this.tip, this.said);
    this.palette = paletteOf(this.host);
  }

  #listen() {
    const { signal } = this.ending;
    const choose = (x, y) => {
      const at = this.#nodeAt(x, y);
      this.focused = at;
      this.#choose(at);
    };
    onGestures(this.stage, {
      pan: (dx, dy) => this.pan(dx, dy),
      zoom: (factor, x, y) => this.zoom(factor, x, y),
      tap: choose,
      hover: (x, y) => this.#hover(x, y),
      leave: () => { this.tip.hidden = true; },
    }, signal);
    this.stage.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.stage.addEventListener("blur", () => { this.focused = -1; this.#soon(); }, { signal });
    onTheme(() => { this.palette = paletteOf(this.host); this.changed(); }, signal);
    this.sizes = new ResizeObserver(() => this.#resized());
    this.sizes.observe(this.stage);
    this.ticking = setInterval(() => {
      if (this.scene?.graph.nodes.some((node) => node.state === "running")) this.#soon();
    }, TICK_MS);
  }

  #resized() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.stage;
    Object.assign(this.view, { width, height });
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    if (!this.moved) this.fit();
    this.changed();
  }

  #soon() {
    this.due ||= requestAnimationFrame(() => {
      this.due = 0;
      this.#paint();
    });
  }

  #paint() {
    if (!this.scene || !this.view.width) return;
    const { palette, selected, focused, found } = this;
    const ratio = devicePixelRatio || 1;
    const shown = { palette, ratio, selected, focused, found, nowMs: this.nowMs() };
    const pen = this.canvas.getContext("2d", { alpha: false });
    const key = [selected, focused, found, Math.floor(shown.nowMs / TICK_MS)];
    const restMs = this.backdrop.restMs();
    const anew = this.stale && !restMs;
    if (anew) this.backdrop.forget();
    const exact = this.backdrop.paint(pen, this.scene, this.view, shown, key);
    clearTimeout(this.sharpening);
    if (!exact || (this.stale && !anew)) {
      this.sharpening = setTimeout(() => { this.stale = true; this.#soon(); }, Math.max(SHARPEN_MS, restMs));
    }
    if (anew) this.minimap.refresh(this.scene, palette, ratio);
    this.stale &&= !anew;
    const { x, y, scale, width, height } = this.view;
    const [right, bottom] = [x + this.scene.layout.width * scale, y + this.scene.layout.height * scale];
    this.minimap.canvas.hidden = x >= 0 && y >= 0 && right <= width && bottom <= height;
    if (!this.minimap.canvas.hidden) this.minimap.paint(this.view, palette, ratio);
  }

  #scaleMin() {
    const { width, height } = this.scene.layout;
    return Math.min(0.5 * Math.min(this.view.width / width, this.view.height / height), SCALE_FIT_MAX / 2);
  }

  #centre(x, y) {
    const { view } = this;
    view.x = view.width / 2 - x * view.scale;
    view.y = view.height / 2 - y * view.scale;
    this.#soon();
  }

  #nodeAt(x, y) {
    const { view } = this;
    return this.scene ? this.scene.nodeAt((x - view.x) / view.scale, (y - view.y) / view.scale) : -1;
  }

  #hover(x, y) {
    const at = this.#nodeAt(x, y);
    this.stage.classList.toggle("graph-over-node", at >= 0);
    this.tip.hidden = at < 0;
    if (at < 0) return;
    this.tip.replaceChildren(...this.#linesOf(at).map((line) => {
      const row = made("div");
      row.textContent = line;
      return row;
    }));
    const left = Math.min(x + 14, this.view.width - this.tip.offsetWidth - 6);
    const below = y + 18 + this.tip.offsetHeight < this.view.height;
    this.tip.style.left = `${Math.max(6, left)}px`;
    this.tip.style.top = `${below ? y + 18 : Math.max(6, y - this.tip.offsetHeight - 10)}px`;
  }

  #linesOf(at) {
    const { graph } = this.scene;
    const node = graph.nodes[at];
    const lines = [
      node.key,
      wordsOf(node, lookOf(node), this.nowMs()),
      `${node.type} · level ${node.level + 1} of ${graph.levels}`,
      `${graph.parents[at].length} before, ${graph.children[at].length} after`,
    ];
    if (node.onCriticalPath) lines.push("on the critical path");
    return lines;
  }

  #choose(at) {
    this.selected = at;
    this.onSelect(at < 0 ? null : this.scene.graph.nodes[at].key);
    this.#soon();
  }

  #key(event) {
    if (!this.scene || event.altKey || event.ctrlKey || event.metaKey) return;
    const act = this.#actOf(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  #actOf({ key, shiftKey }) {
    if (key === "+" || key === "=") return () => this.zoom(STEP);
    if (key === "-") return () => this.zoom(1 / STEP);
    if (key === "0") return () => this.fit();
    if (key === "Enter" || key === " ") return this.focused >= 0 && (() => this.#choose(this.focused));
    if (key === "Escape") return this.selected >= 0 && (() => this.#choose(-1));
    const pans = { ArrowLeft: [PAN_PX, 0], ArrowRight: [-PAN_PX, 0], ArrowUp: [0, PAN_PX], ArrowDown: [0, -PAN_PX] };
    if (shiftKey && key in pans) return () => this.pan(...pans[key]);
    const from = this.focused >= 0 ? this.focused : this.selected;
    const next = nextNode(this.scene, from, key);
    return next >= 0 && (() => this.#focus(next));
  }

  #focus(at) {
    this.focused = at;
    const { x, y, width, height } = this.boxOf(this.scene.graph.nodes[at].key);
    const inSight = x > 0 && y > 0 && x + width < this.view.width && y + height < this.view.height;
    if (!inSight || this.view.scale < SCALE_READABLE) this.reveal(this.scene.graph.nodes[at].key);
    this.said.textContent = this.#linesOf(at).join(", ");
    this.#soon();
  }
}

function made(tag, className = "", attributes = {}) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
