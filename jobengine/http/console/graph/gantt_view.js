// The chart of a run's attempts: a lane for each node, with the spans in which it queued, ran and
// backed off, on one axis of time.
//
// I1  Only lanes in sight have elements, however many there are.
// I2  Lanes keep their order while the run goes on: that of the run's plan, or, where it was chosen,
//     by when they began.
// I3  While all of the run is in sight, the axis grows with it; once somebody has chosen a part of
//     it, that part stays.

import { span as spanText } from "../format.js";
import { GanttRow } from "./gantt_row.js";
import { STEP } from "./graph_view.js";
import { stepOf, tickText } from "./time_axis.js";

export const ROW_HEIGHT = 28;
const ROWS_BEYOND = 4;
const TICK_APART_PX = 84;
const TICK_ROOM_PX = 44;
const SPAN_MIN_MS = 5;
const LIVE_MS = 200;

export class GanttView {
  /**
   * @param {HTMLElement} host is filled, and emptied by `end`
   * @param {{onSelect: (key: string) => void, nowMs: () => number}} given
   */
  constructor(host, { onSelect, nowMs }) {
    this.host = host;
    this.onSelect = onSelect;
    this.nowMs = nowMs;
    this.chart = null;
    this.order = [];
    this.byStart = false;
    this.rows = new Map();
    this.focused = 0;
    this.chosen = null;
    this.due = 0;
    this.ending = new AbortController();
    this.#build();
    this.#listen();
  }

  /** @param {import("./spans.js").Lanes} chart @param {boolean} live whether spans without end grow */
  show(chart, live) {
    this.chart = chart;
    this.live = live;
    this.#sort();
    this.changed();
  }

  /** Spans have come or grown. */
  changed() {
    this.due ||= requestAnimationFrame(() => {
      this.due = 0;
      this.#draw();
    });
  }

  sortByStart(byStart) {
    this.byStart = byStart;
    if (!this.chart) return;
    this.#sort();
    this.changed();
  }

  fit() {
    this.chosen = null;
    this.changed();
  }

  /** Show less or more of the time, about a place between 0 (left) and 1 (right). */
  zoom(factor, about = 0.5) {
    const { fromMs, toMs } = this.#sight();
    const length = Math.max(SPAN_MIN_MS, (toMs - fromMs) / factor);
    const fixed = fromMs + (toMs - fromMs) * about;
    this.chosen = { fromMs: fixed - length * about, toMs: fixed + length * (1 - about) };
    this.changed();
  }

  /** Go along the axis by a share of what is in sight. */
  pan(share) {
    const { fromMs, toMs } = this.#sight();
    const shift = (toMs - fromMs) * share;
    this.chosen = { fromMs: fromMs + shift, toMs: toMs + shift };
    this.changed();
  }

  end() {
    this.ending.abort();
    this.sizes.disconnect();
    clearInterval(this.ticking);
    cancelAnimationFrame(this.due);
    this.host.replaceChildren();
  }

  #build() {
    this.axis = made("div", "gantt-axis", { "aria-hidden": "true" });
    this.scroll = made("div", "gantt-scroll");
    this.body = made("div", "gantt-body", { role: "grid", "aria-label": "Attempts of all nodes over time", "aria-readonly": "true" });
    this.tip = made("div", "graph-tip", { role: "tooltip", hidden: "" });
    this.scroll.append(this.body);
    this.host.append(this.axis, this.scroll, this.tip);
  }

  #listen() {
    const { signal } = this.ending;
    this.scroll.addEventListener("scroll", () => { this.tip.hidden = true; this.changed(); }, { signal, passive: true });
    this.host.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    this.host.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.host.addEventListener("pointermove", (event) => this.#hover(event), { signal });
    this.host.addEventListener("pointerleave", () => { this.tip.hidden = true; }, { signal });
    this.body.addEventListener("pointerdown", (event) => this.#drag(event), { signal });
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest(".gantt-row");
      if (row && event.target.closest(".gantt-name")) this.onSelect(row.dataset.key);
    }, { signal });
    this.sizes = new ResizeObserver(() => this.changed());
    this.sizes.observe(this.host);
    this.ticking = setInterval(() => { if (this.live) this.changed(); }, LIVE_MS);
  }

  #sort() {
    this.order = [...this.chart.lanes];
    if (!this.byStart) return;
    const start = (lane) => lane.spans[0]?.fromMs ?? Infinity;
    const places = new Map(this.order.map((lane, place) => [lane, place]));
    this.order.sort((a, b) => start(a) - start(b) || places.get(a) - places.get(b));
  }

  /** The part of the time that is shown. */
  #sight() {
    if (this.chosen) return this.chosen;
    const toMs = this.live ? Math.max(this.chart.toMs, this.nowMs()) : this.chart.toMs;
    const room = Math.max(SPAN_MIN_MS, toMs - this.chart.fromMs) * 0.02;
    return { fromMs: this.chart.fromMs - room / 2, toMs: Math.max(toMs, this.chart.fromMs + SPAN_MIN_MS) + room };
  }

  #draw() {
    if (!this.chart) return;
    const nameWidth = parseFloat(getComputedStyle(this.host).getPropertyValue("--gantt-name")) || 200;
    const width = Math.max(40, this.body.clientWidth - nameWidth);
    const { fromMs, toMs } = this.#sight();
    const scale = { fromMs, toMs, pixels: width / (toMs - fromMs), width, nowMs: this.live ? this.nowMs() : this.chart.toMs };
    this.#drawAxis(scale, nameWidth);
    this.body.style.height = `${this.order.length * ROW_HEIGHT}px`;
    this.body.setAttribute("aria-rowcount", this.order.length);
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW_HEIGHT) - ROWS_BEYOND);
    const last = Math.min(this.order.length, first + Math.ceil(this.scroll.clientHeight / ROW_HEIGHT) + 2 * ROWS_BEYOND);
    this.#drawRows(first, last, scale);
  }

  #drawAxis({ fromMs, toMs, pixels, width }, left) {
    const step = stepOf(TICK_APART_PX / pixels);
    const begin = this.chart.fromMs;
    const ticks = [];
    for (let at = Math.ceil((fromMs - begin) / step) * step; at <= toMs - begin; at += step) {
      const x = (at + begin - fromMs) * pixels;
      if (x > width - TICK_ROOM_PX) break;
      const tick = made("span", "gantt-tick");
      tick.style.left = `${left + x}px`;
      tick.textContent = tickText(at, step);
      ticks.push(tick);
    }
    const corner = made("span", "gantt-corner");
    corner.textContent = spanText((toMs - fromMs) / 1_000);
    this.axis.replaceChildren(corner, ...ticks);
    this.body.style.setProperty("--gantt-grid", `${step * pixels}px`);
    this.body.style.setProperty("--gantt-grid-from", `${left + ((((begin - fromMs) * pixels) % (step * pixels)))}px`);
  }

  #drawRows(first, last, scale) {
    for (const [place, row] of this.rows) {
      const held = row.element.contains(document.activeElement);
      if ((place >= first && place < last) || held) continue;
      row.element.remove();
      this.rows.delete(place);
    }
    for (let place = first; place < last; place += 1) {
      let row = this.rows.get(place);
      if (!row) {
        row = new GanttRow(place);
        this.rows.set(place, row);
        const after = [...this.rows.entries()].filter(([other]) => other > place).sort(([a], [b]) => a - b)[0];
        this.body.insertBefore(row.element, after?.[1].element ?? null);
      }
      row.draw(this.order[place], scale, place === this.focused);
    }
    for (const [place, row] of this.rows) {
      if (place < first || place >= last) row.draw(this.order[place], scale, true);
    }
  }

  #wheel(event) {
    const box = this.#trackBox();
    const along = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey || this.axis.contains(event.target)) {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.004), Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    } else if (along) {
      event.preventDefault();
      this.pan(along / box.width);
    }
  }

  #trackBox() {
    const box = this.body.getBoundingClientRect();
    const name = parseFloat(getComputedStyle(this.host).getPropertyValue("--gantt-name")) || 200;
    return { left: box.left + name, width: Math.max(40, box.width - name) };
  }

  /** Dragging a track goes along the axis; a finger that goes up or down scrolls the page. */
  #drag(event) {
    if (event.button || !event.target.closest(".gantt-track")) return;
    const { width } = this.#trackBox();
    const ending = new AbortController();
    let x = event.clientX;
    const move = (next) => {
      if (Math.abs(next.clientX - x) < 1) return;
      this.pan((x - next.clientX) / width);
      x = next.clientX;
    };
    const end = () => ending.abort();
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, end, { signal: ending.signal });
    addEventListener("pointermove", move, { signal: ending.signal });
    this.ending.signal.addEventListener("abort", end, { signal: ending.signal });
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -Infinity, End: Infinity };
    const acts = {
      "+": () => this.zoom(STEP), "=": () => this.zoom(STEP), "-": () => this.zoom(1 / STEP), 0: () => this.fit(),
      ArrowLeft: () => this.pan(-0.15), ArrowRight: () => this.pan(0.15),
    };
    const act = event.key in moves ? () => this.#focus(this.focused + moves[event.key]) : acts[event.key];
    if (!act || !this.body.contains(event.target)) return;
    event.preventDefault();
    act();
  }

  #focus(place) {
    this.focused = Math.max(0, Math.min(this.order.length - 1, place));
    const top = this.focused * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.scroll;
    if (top < scrollTop) this.scroll.scrollTop = top;
    if (top + ROW_HEIGHT > scrollTop + clientHeight) this.scroll.scrollTop = top + ROW_HEIGHT - clientHeight;
    this.#draw();
    this.rows.get(this.focused).name.focus();
    this.#draw();
  }

  #hover({ target, clientX, clientY }) {
    const bar = target.closest?.(".gantt-bar");
    this.tip.hidden = !bar;
    if (!bar) return;
    this.tip.replaceChildren(...bar.dataset.says.split("\n").map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    const box = this.host.getBoundingClientRect();
    const left = Math.min(clientX - box.left + 14, box.width - this.tip.offsetWidth - 6);
    this.tip.style.left = `${Math.max(6, left)}px`;
    this.tip.style.top = `${clientY - box.top + 18}px`;
  }
}

function made(tag, className, attributes = {}) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
