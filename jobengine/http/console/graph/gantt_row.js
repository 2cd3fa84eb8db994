// One lane of the chart: a name, and bars that are moved rather than made anew.

import { span as spanText } from "../format.js";
import { LOOKS, signOf } from "./looks.js";

const BAR_MIN_PX = 3;
const BARS_MAX = 400;
const KINDS = { queue: "queues", run: "runs", backoff: "backs off" };

export class GanttRow {
  constructor(place) {
    this.element = made("div", "gantt-row");
    this.element.setAttribute("role", "row");
    this.element.setAttribute("aria-rowindex", place + 1);
    this.element.style.top = `calc(${place} * var(--gantt-row))`;
    const head = made("div", "gantt-head");
    head.setAttribute("role", "rowheader");
    this.name = made("button", "gantt-name");
    this.name.type = "button";
    head.append(this.name);
    this.track = made("div", "gantt-track");
    this.track.setAttribute("role", "gridcell");
    this.element.append(head, this.track);
    this.bars = [];
    this.shown = "";
  }

  draw(lane, scale, reachable) {
    this.name.tabIndex = reachable ? 0 : -1;
    const shown = `${lane.key}\n${lane.state}`;
    if (shown !== this.shown) this.#title(lane);
    this.shown = shown;
    const spans = lane.spans.filter((span) => span.fromMs <= scale.toMs && (span.toMs ?? scale.nowMs) >= scale.fromMs).slice(0, BARS_MAX);
    while (this.bars.length > spans.length) this.bars.pop().remove();
    spans.forEach((span, at) => {
      if (!this.bars[at]) this.bars.push(this.track.appendChild(made("div", "gantt-bar")));
      place(this.bars[at], span, scale, lane);
    });
    this.track.setAttribute("aria-label", lane.spans.map((span) => saysOf(span, scale.nowMs).join(" ")).join("; ") || "nothing yet");
  }

  #title({ key, state, onCriticalPath }) {
    this.element.dataset.key = key;
    this.element.dataset.state = state;
    this.element.classList.toggle("gantt-critical", onCriticalPath);
    const text = made("span", "gantt-key");
    text.textContent = key;
    this.name.replaceChildren(signOf(state), text);
    this.name.title = onCriticalPath ? `${key}, ${state}, on the critical path` : `${key}, ${state}`;
  }
}

/** The look of a span: an attempt has that of its outcome, and one that another follows its own. */
function lookOfSpan(span, lane) {
  if (span.kind !== "run") return span.kind;
  if (span.toMs === undefined) return "running";
  if (span.outcome === "completed" || !(span.outcome in LOOKS)) return "completed";
  return span === lane.spans.at(-1) ? span.outcome : "retrying";
}

function place(bar, span, { fromMs, pixels, width, nowMs }, lane) {
  const left = Math.max(-4, (span.fromMs - fromMs) * pixels);
  const right = Math.min(width + 4, ((span.toMs ?? Math.max(nowMs, span.fromMs)) - fromMs) * pixels);
  bar.style.transform = `translateX(${left.toFixed(1)}px)`;
  bar.style.width = `${Math.max(BAR_MIN_PX, right - left).toFixed(1)}px`;
  bar.className = `gantt-bar gantt-${span.kind} look-${lookOfSpan(span, lane)}`;
  Object.assign(bar.dataset, { kind: span.kind, attempt: span.attempt, outcome: span.outcome ?? "" });
  bar.dataset.says = [lane.key, ...saysOf(span, nowMs), ...whenOf(span)].join("\n");
}

function saysOf(span, nowMs) {
  const long = spanText(((span.toMs ?? nowMs) - span.fromMs) / 1_000);
  const words = [`${KINDS[span.kind]} ${long}${span.toMs === undefined ? " so far" : ""}`, `attempt ${span.attempt}`];
  if (span.outcome) words.push(span.outcome === "scheduled" ? "given back" : span.outcome);
  return words;
}

function whenOf({ fromMs, toMs, workerId }) {
  const clock = (ms) => new Date(ms).toISOString().slice(11, 23);
  const lines = [`${clock(fromMs)} to ${toMs === undefined ? "now" : clock(toMs)} UTC`];
  if (workerId) lines.push(`worker ${workerId}`);
  return lines;
}

function made(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
