// The lanes of a run's chart, kept up to date by the run's events, by the rules of
// `jobengine/http/run_gantt.py`.
//
// I1  A span is known by its lane, kind and attempt: an event that comes again adds nothing.

export class Lanes {
  /** @param {object} gantt the answer of `GET /runs/{runId}/gantt` */
  constructor(gantt) {
    this.lanes = gantt.lanes.map((lane) => ({ ...lane, spans: lane.spans.map(timed) }));
    this.byJob = new Map(this.lanes.map((lane) => [lane.jobId, lane]));
    this.fromMs = Date.parse(gantt.from);
    this.toMs = Date.parse(gantt.to);
  }

  /** @param {object} event an envelope `orch.event.v1` */
  apply(event) {
    const lane = this.byJob.get(event.job?.id);
    if (!lane) return;
    const atMs = Date.parse(event.occurredAt);
    const { status, attempt } = event.job;
    this.toMs = Math.max(this.toMs, atMs);
    if (event.eventType === "run.node_opened") add(lane, { kind: "queue", attempt: attempt + 1, fromMs: atMs });
    if (status === undefined) return;
    lane.state = status;
    const last = lane.spans.at(-1);
    const opened = lane.spans.length === 1 && last.toMs === undefined && event.job.from === "pending";
    if (opened && status === "scheduled") return;
    if (last && last.toMs === undefined && endsWith(last, status, attempt)) finish(last, event, atMs);
    if (status === "running") add(lane, { kind: "run", attempt, fromMs: atMs, workerId: event.job.workerId });
    if (status === "scheduled") this.#queue(lane, event, atMs);
  }

  #queue(lane, { eventType, job, metrics }, atMs) {
    const delayMs = eventType === "job.retried" ? (metrics?.backoffSeconds ?? 0) * 1_000 : 0;
    const begunMs = atMs + delayMs;
    if (delayMs) add(lane, { kind: "backoff", attempt: job.attempt, fromMs: atMs, toMs: begunMs });
    add(lane, { kind: "queue", attempt: job.attempt + 1, fromMs: begunMs });
  }
}

/** Whether what a job enters ends this span: a run is ended by its own attempt, a queue by its run. */
function endsWith(span, status, attempt) {
  if (span.kind === "run") return status !== "running" && attempt >= span.attempt;
  return status !== "scheduled";
}

function finish(span, { job }, atMs) {
  span.toMs = Math.max(atMs, span.fromMs);
  if (span.kind !== "run") return;
  span.outcome = job.status;
  span.workerId ??= job.workerId;
}

function add(lane, span) {
  if (!lane.spans.some(({ kind, attempt }) => kind === span.kind && attempt === span.attempt)) lane.spans.push(span);
}

function timed({ from, to, ...span }) {
  return { ...span, fromMs: Date.parse(from), toMs: to === undefined ? undefined : Date.parse(to) };
}
