// The last events as they come in: which types are shown can be chosen, and the list be held still.

import { html, useEffect, useMemo, useState } from "./preact.js";
import { listen, recentEntries } from "./feed.js";
import { count, instant } from "./format.js";
import { Empty, JobLink } from "./parts.js";
import { Link } from "./router.js";

const SHOWN = 100;
const DRAW_MS = 200;
const GROUPS = [
  ["", "All events"],
  ["job.", "Jobs"],
  ["job.failed job.dead_lettered", "Failures"],
  ["run.", "Runs"],
];

// The newest entries, no more than a few times a second; none newer while `held`.
function useRecent(held) {
  const [entries, setEntries] = useState(recentEntries);
  useEffect(() => {
    if (held) return undefined;
    setEntries(recentEntries());
    let timer = 0;
    const draw = () => {
      timer = 0;
      setEntries(recentEntries());
    };
    const stop = listen(() => {
      timer ||= setTimeout(draw, DRAW_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [held]);
  return entries;
}

function isWanted(entry, wanted) {
  if (entry.kind !== "event" || !wanted) return true;
  return wanted.split(" ").some((one) => entry.eventType.startsWith(one));
}

export function Events() {
  const [held, setHeld] = useState(false);
  const [wanted, setWanted] = useState("");
  const entries = useRecent(held);
  const shown = useMemo(
    () => entries.filter((entry) => isWanted(entry, wanted)).slice(0, SHOWN),
    [entries, wanted],
  );
  return html`<section class="card events" aria-labelledby="events-title">
    <header>
      <h2 id="events-title">Events</h2>
      <div class="actions">
        <select aria-label="Which events" value=${wanted} onChange=${(event) => setWanted(event.target.value)}>
          ${GROUPS.map(([value, label]) => html`<option key=${label} value=${value}>${label}</option>`)}
        </select>
        <button type="button" aria-pressed=${held} onClick=${() => setHeld(!held)}>Pause</button>
      </div>
    </header>
    <ol tabindex="0" aria-label="Latest events, newest first">
      ${shown.map((entry) => html`<${Entry} key=${entry.seq ?? `${entry.kind}${entry.to}`} entry=${entry} />`)}
    </ol>
    ${!shown.length && html`<${Empty}>Nothing has happened since this page was opened.<//>`}
  </section>`;
}

const LEFT_OUT = {
  gap: "are past retention",
  skipped: "were skipped, to show what happens now",
};

function Entry({ entry }) {
  if (entry.kind !== "event") {
    const left = entry.to - entry.from + 1;
    return html`<li class="left-out" data-kind=${entry.kind}>
      ${count(left)} events (${entry.from}–${entry.to}) ${LEFT_OUT[entry.kind]}
    </li>`;
  }
  const { seq, eventType, occurredAt, job, data } = entry;
  return html`<li data-seq=${seq}>
    <time datetime=${occurredAt} title=${occurredAt}>${instant(occurredAt)}</time>
    <span class="what" data-event=${eventType}>${eventType}</span>
    ${job &&
    html`<span class="whose">${job.type}</span> <${JobLink} id=${job.id} />
      ${job.reason && html`<span class="quiet">${job.reason.replaceAll("_", " ")}</span>`}`}
    ${!job && data?.runId && html`<${Link} to=${`/runs/${data.runId}`} class="id">${data.runId}<//>`}
  </li>`;
}
