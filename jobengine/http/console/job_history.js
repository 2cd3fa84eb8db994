// How a job has gone: its transitions with what each span took, and its attempts.

import { html } from "./preact.js";
import { between } from "./format.js";
import { State, Time } from "./parts.js";

export function History({ items, more }) {
  return html`<section class="card" aria-label="History">
    <header><h2>History</h2>${more && html`<span class="quiet">the first ${items.length}</span>`}</header>
    <ol class="history">
      ${items.map(
        (item, index) => html`<li key=${item.seq} data-seq=${item.seq}>
          <div class="line">
            <${State} state=${item.to} reason=${item.reason} />
            <${Time} at=${item.at} />
          </div>
          <p class="quiet">
            by ${item.actor}${item.workerId && ` on ${item.workerId}`}${
              items[index + 1] && ` · ${between(item.at, items[index + 1].at)}`
            }
          </p>
          ${item.error && html`<p class="error">${item.error.class}: ${item.error.message}</p>`}
        </li>`,
      )}
    </ol>
  </section>`;
}

// [{attempt, workerId, startedAt, endedAt, to, reason, error}] of the starts and what ended them.
function attemptsOf(items) {
  const attempts = [];
  for (const item of items) {
    if (item.to === "running") {
      attempts.push({ attempt: item.attempt, workerId: item.workerId, startedAt: item.at });
    } else if (item.from === "running" && attempts.length) {
      Object.assign(attempts.at(-1), { endedAt: item.at, to: item.to, reason: item.reason });
    }
  }
  return attempts;
}

const endOf = ({ to, reason }) => (to === "scheduled" ? "given back" : reason);

export function Attempts({ items }) {
  const attempts = attemptsOf(items);
  if (!attempts.length) return null;
  return html`<section class="card" aria-label="Attempts">
    <header><h2>Attempts</h2></header>
    <div class="scroll"><table>
      <thead>
        <tr>
          <th scope="col" class="number">No.</th>
          <th scope="col">Worker</th>
          <th scope="col">Ended</th>
          <th scope="col" class="number">Took</th>
        </tr>
      </thead>
      <tbody>
        ${attempts.map(
          (one) => html`<tr key=${one.attempt}>
            <td class="number">${one.attempt}</td>
            <td>${one.workerId ?? "–"}</td>
            <td><${State} state=${one.to ?? "running"} reason=${endOf(one)} /></td>
            <td class="number">${one.endedAt ? between(one.startedAt, one.endedAt) : "…"}</td>
          </tr>`,
        )}
      </tbody>
    </table></div>
  </section>`;
}
