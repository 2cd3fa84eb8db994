// Why a job does not start: every gate that is closed for it, and when or by what it opens.

import { html } from "./preact.js";
import { useRead } from "./api.js";
import { ErrorNote, Time } from "./parts.js";

const POLL_MS = 2_000;

export function Waiting({ root }) {
  const { data, error } = useRead(`${root}/explain`, { everyMs: POLL_MS });
  if (error) return html`<${ErrorNote} error=${error} />`;
  if (!data) return null;
  return html`<section class="note" data-kind="wait" aria-labelledby="waiting-title">
    <h2 id="waiting-title">${data.gates.length ? "Why it does not start" : "It starts next"}</h2>
    <ul class="gates">
      ${data.gates.map(
        (gate) => html`<li key=${`${gate.gate} ${gate.key}`}>
          <b>${gate.gate.replaceAll("_", " ")}</b> ${gate.message}
          ${gate.opensAt && html` · opens <${Time} at=${gate.opensAt} />`}
          ${gate.opensOn && html` · opens on ${gate.opensOn.replaceAll("_", " ")}`}
        </li>`,
      )}
    </ul>
    ${data.position && html`<p>Place ${data.position} in its lane${
      data.estimatedStartAt ? html`, starts about <${Time} at=${data.estimatedStartAt} />` : ""
    }</p>`}
  </section>`;
}
