// Lines over time, one value a second, drawn as SVG in the page's own colours.

import { html, useEffect, useRef, useState } from "./preact.js";
import { rate } from "./format.js";

const HEIGHT = 220;
const EDGE = { top: 12, right: 22, bottom: 22, left: 46 };

// `series`: [{name, label, values}], all as long as `times` (ms), oldest first.
export function TimeChart({ times, series, label }) {
  const [box, width] = useWidth();
  const [at, setAt] = useState(null);
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const top = niceTop(Math.max(1, ...series.flatMap((one) => one.values)));
  const x = (index) => EDGE.left + (inner.width * index) / Math.max(1, times.length - 1);
  const y = (value) => EDGE.top + inner.height * (1 - value / top);
  const chosen = at === null ? null : Math.min(at, times.length - 1);

  const point = (event) => {
    const left = event.clientX - box.current.getBoundingClientRect().left - EDGE.left;
    const index = Math.round((left / inner.width) * (times.length - 1));
    setAt(Math.max(0, Math.min(times.length - 1, index)));
  };
  const step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
    if (event.key === "Escape") setAt(null);
    if (!by) return;
    event.preventDefault();
    setAt(Math.max(0, Math.min(times.length - 1, (chosen ?? times.length) + by)));
  };

  return html`<figure class="chart" ref=${box}>
    <figcaption>
      ${series.map(
        (one) => html`<span key=${one.name} class="key" data-series=${one.name}
          >${one.label}${" "}
          <b class="number">${rate(chosen === null ? lately(one.values) : one.values[chosen])}/s</b></span
        >`,
      )}
      <span class="quiet when">${chosen === null ? "last 10 s" : timeOf(times[chosen])}</span>
    </figcaption>
    <svg
      width=${width}
      height=${HEIGHT}
      role="img"
      tabindex="0"
      aria-label=${label}
      onPointerMove=${point}
      onPointerLeave=${() => setAt(null)}
      onKeyDown=${step}
    >
      ${[0, top / 2, top].map(
        (value) => html`<g key=${value} class="rule">
          <line x1=${EDGE.left} x2=${width - EDGE.right} y1=${y(value)} y2=${y(value)} />
          <text x=${EDGE.left - 8} y=${y(value) + 4} text-anchor="end">${rateTick(value)}</text>
        </g>`,
      )}
      ${minuteMarks(times).map(
        (index) => html`<g key=${times[index]} class="rule">
          <text x=${x(index)} y=${HEIGHT - 4} text-anchor="middle">${minuteOf(times[index])}</text>
        </g>`,
      )}
      ${series
        .filter((one) => one.values.some(Boolean))
        .map((one) => html`<path key=${one.name} data-series=${one.name} d=${lineOf(one.values, x, y)} />`)}
      ${chosen !== null && html`<line class="cursor" x1=${x(chosen)} x2=${x(chosen)} y1=${EDGE.top} y2=${y(0)} />`}
    </svg>
  </figure>`;
}

// The width there is, in px; drawings follow it.
function useWidth() {
  const box = useRef(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(260, entry.contentRect.width)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return [box, width];
}

const lineOf = (values, x, y) =>
  values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");

function lately(values) {
  const last = values.slice(-10);
  return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
}

// The next of 1, 2, 5, 10, 20, … that is not below.
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => factor * power >= value) * power;
}

const rateTick = (value) => (value === 0 ? "0" : value < 1 ? value.toFixed(1) : rate(value).replace(/\.0$/, ""));
const timeOf = (ms) => new Date(ms).toLocaleTimeString(undefined, { hourCycle: "h23" });
const minuteOf = (ms) =>
  new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const minuteMarks = (times) =>
  times.map((_, index) => index).filter((index) => times[index] % 60_000 === 0);
