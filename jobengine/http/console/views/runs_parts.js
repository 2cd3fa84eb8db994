// What the pages of runs share: the look of a state, and how far a run is.

import { count } from "../format.js";
import { LOOKS } from "../graph/looks.js";
import { html } from "../preact.js";

/** The sign of a look with its word, or with another one. */
export function Look({ look, word = LOOKS[look].label }) {
  const { path, filled } = LOOKS[look];
  return html`<span class=${`look-badge look-${look}`} data-look=${look}>
    <svg viewBox="0 0 16 16" aria-hidden="true" class="look-sign">
      <path d=${path} class=${filled ? "look-filled" : "look-line"} />
    </svg>${word}
  </span>`;
}

const ORDER = ["completed", "failed", "cancelled", "running", "scheduled"];

/** How far a run is: a bar of its nodes by state. `counts` null: it is not known yet. */
export function RunProgress({ counts, nodes }) {
  const said = counts
    ? ORDER.filter((state) => counts[state]).map((state) => `${count(counts[state])} ${state}`).join(", ") || "nothing has begun"
    : "not known yet";
  const done = counts ? (counts.completed ?? 0) + (counts.failed ?? 0) + (counts.cancelled ?? 0) : null;
  return html`<div class="run-progress" title=${said}>
    <div class="run-progress-bar" role="img" aria-label=${said} data-known=${String(Boolean(counts))}>
      ${counts && ORDER.filter((state) => counts[state]).map((state) => html`<span
        key=${state} class=${`look-${state}`} style=${{ width: `${(100 * counts[state]) / nodes}%` }}
      ></span>`)}
    </div>
    <span class="number">${done === null ? "" : `${count(done)} / `}${count(nodes)}</span>
  </div>`;
}
