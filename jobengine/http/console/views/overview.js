// How the tenant is doing now: what waits and runs, how fast, who works, what happens.

import { html, useMemo } from "../preact.js";
import { useRead } from "../api.js";
import { TimeChart } from "../chart.js";
import { Events } from "../events.js";
import { count, rate, short } from "../format.js";
import { Age, Empty, ErrorNote, PageHead, Time } from "../parts.js";
import { Link } from "../router.js";
import { useReadiness } from "../readiness.js";

const POLL_MS = 2_000;
const SECONDS = 300;
const LOADS = {
  normal: "takes all work",
  elevated: "low priorities wait",
  shedding: "refuses new work",
};

export function Overview() {
  const summary = useRead("/jobs/summary", { everyMs: POLL_MS });
  const activity = useRead(`/activity?seconds=${SECONDS}`, { everyMs: POLL_MS });
  const workers = useRead("/workers?pageSize=500", { everyMs: POLL_MS });
  const readiness = useReadiness(POLL_MS);
  const seconds = useMemo(() => secondsOf(activity.data), [activity.data]);
  const error = summary.error ?? activity.error ?? workers.error;
  return html`<${PageHead} title="Overview" />
    <div class="stack">
      <${ErrorNote} error=${error} />
      <dl class="tiles">
        <${Backlog} summary=${summary.data} />
        <${Workers} workers=${workers.data} />
        <${Load} readiness=${readiness} />
      </dl>
      <div class="columns">
        <section class="card throughput" aria-labelledby="throughput-title">
          <header>
            <h2 id="throughput-title">Throughput</h2>
            <span class="quiet">last ${SECONDS / 60} minutes</span>
          </header>
          <div class="body"><${Throughput} seconds=${seconds} /></div>
        </section>
        <section class="card attached" aria-labelledby="workers-title">
          <header><h2 id="workers-title">Workers</h2></header>
          <${WorkerTable} workers=${workers.data} />
        </section>
      </div>
      <${Events} />
    </div>`;
}

function Tile({ name, label, value, note, to, alarm }) {
  const shown = value ?? "–";
  return html`<div class="tile" data-tile=${name} data-alarm=${alarm}>
    <dt>${to ? html`<${Link} to=${to}>${label}<//>` : label}</dt>
    <dd>${shown}</dd>
    <dd class="quiet">${note ?? "\u00a0"}</dd>
  </div>`;
}

function Backlog({ summary }) {
  const { pending, scheduled, running } = summary?.counts ?? {};
  const oldest = dueBy(summary?.oldestDueAt);
  const big = (value) => value !== undefined && html`<span title=${count(value)}>${short(value)}</span>`;
  return html`<${Tile} name="pending" label="Pending" value=${big(pending)} to="/jobs?state=pending"
      note="not released yet" />
    <${Tile} name="scheduled" label="Scheduled" value=${big(scheduled)} to="/jobs?state=scheduled"
      note="wait for their turn" />
    <${Tile} name="running" label="Running" value=${big(running)} to="/jobs?state=running"
      note="are with a worker" />
    <${Tile} name="oldest" label="Oldest waiting"
      value=${summary && (oldest ? html`<${Age} since=${oldest} />` : "none")}
      note=${oldest && html`due since <${Time} at=${oldest} />`} />`;
}

const dueBy = (instant) => (instant && Date.parse(instant) <= Date.now() ? instant : null);

function Workers({ workers }) {
  const items = workers?.items ?? [];
  const sum = (field) => items.reduce((total, worker) => total + worker[field], 0);
  return html`<${Tile} name="workers" label="Workers"
    value=${workers && `${items.length}${workers.nextPageToken ? "+" : ""}`}
    note=${workers && `${count(sum("leases"))} of ${count(sum("capacity"))} places busy`} />`;
}

function Load({ readiness }) {
  const [level, causes] = readiness.load?.split(": ") ?? [];
  const alarm = !readiness.ready ? "bad" : level === "normal" || !level ? undefined : "wait";
  return html`<${Tile} name="load" label="Engine" alarm=${readiness.known ? alarm : undefined}
    value=${readiness.known && (readiness.ready ? level : "not ready")}
    note=${readiness.ready ? causes ?? LOADS[level] : readiness.message} />`;
}

// {times, started, completed, failed}: the seconds that have passed whole; those without an entry
// saw nothing.
function secondsOf(activity) {
  if (!activity) return null;
  const now = Math.floor(Date.parse(activity.at) / 1000);
  const times = Array.from({ length: SECONDS }, (_, index) => (now - SECONDS + index) * 1000);
  const found = new Map(activity.seconds.map((one) => [Date.parse(one.at), one]));
  const column = (name) => times.map((at) => found.get(at)?.[name] ?? 0);
  return { times, started: column("started"), completed: column("completed"), failed: column("failed") };
}

const SERIES = [
  ["started", "started"],
  ["failed", "failed attempts"],
  ["completed", "completed"],
];

function Throughput({ seconds }) {
  if (!seconds) return html`<div class="chart-space"></div>`;
  const lastMinute = seconds.completed.slice(-60).reduce((sum, value) => sum + value, 0);
  const label =
    `Jobs a second over the last ${SECONDS / 60} minutes; ${rate(lastMinute / 60)} completed a second ` +
    "in the last one. Arrow keys read single seconds.";
  const series = SERIES.map(([name, words]) => ({ name, label: words, values: seconds[name] }));
  return html`<${TimeChart} times=${seconds.times} series=${series} label=${label} />`;
}

const ROWS = 8;

function WorkerTable({ workers }) {
  if (!workers) return null;
  if (!workers.items.length) return html`<${Empty}>No worker is attached, so no job starts.<//>`;
  const busiest = [...workers.items].sort((a, b) => b.leases - a.leases || (a.workerId < b.workerId ? -1 : 1));
  return html`<div class="scroll"><table>
      <thead>
        <tr>
          <th scope="col">Worker</th><th scope="col">Takes</th><th scope="col" class="number">Busy</th>
        </tr>
      </thead>
      <tbody>
        ${busiest.slice(0, ROWS).map(
          (worker) => html`<tr key=${worker.workerId}>
            <td>${worker.workerId}${worker.draining && html` <span class="quiet">draining</span>`}</td>
            <td class="quiet">${worker.jobTypes.join(", ") || worker.queues.join(", ") || "everything"}</td>
            <td class="number">${worker.leases} / ${worker.capacity}</td>
          </tr>`,
        )}
      </tbody>
    </table></div>
    ${busiest.length > ROWS && html`<p class="empty">and ${count(busiest.length - ROWS)} more</p>`}`;
}
