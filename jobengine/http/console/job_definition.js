// What was asked for.

import { html } from "./preact.js";
import { span } from "./format.js";
import { Time } from "./parts.js";
import { Link } from "./router.js";

export function Definition({ job }) {
  const rows = [
    ["Type", job.jobType],
    ["Queue", job.queue],
    ["Priority", `${job.priority} of 9`],
    ["Project", job.projectId],
    ["Source", job.sourceId],
    ["Retries", `${job.maxRetries}, ${backoffOf(job.backoff)}`],
    ["Lease", span(job.leaseSeconds)],
    ["Timeout", job.timeoutSeconds && span(job.timeoutSeconds)],
    ["Not before", job.notBefore && html`<${Time} at=${job.notBefore} />`],
    ["Expires", job.expiresAt && html`<${Time} at=${job.expiresAt} />`],
    ["Unique key", job.uniqueKey],
    ["Concurrency", job.concurrencyKey && `${job.concurrencyKey}, ${job.concurrencyLimit} at once`],
    ["Cost", job.cost !== 1 && String(job.cost)],
    ["Depends on", job.dependsOn?.length && job.dependsOn.map(linked)],
    ["Correlation", html`<span class="id">${job.correlationId}</span>`],
    ["Payload digest", html`<span class="id">${job.payloadDigest}</span>`],
  ];
  const labels = Object.entries(job.labels ?? {});
  return html`<section class="card" aria-label="Definition">
    <header><h2>Definition</h2></header>
    <div class="body">
      <dl class="facts">
        ${rows
          .filter(([, value]) => value)
          .map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}
        ${labels.map(([name, value]) => html`<dt>${name}</dt><dd>
          <${Link} to=${`/jobs?label=${encodeURIComponent(`${name}:${value}`)}`}>${value}<//></dd>`)}
      </dl>
    </div>
  </section>`;
}

const linked = (id) => html`<${Link} class="id" to=${`/jobs/${id}`}>${id.slice(-8)} <//>`;

function backoffOf({ kind, baseSeconds, maxSeconds, jitter }) {
  const spread = jitter === "full" ? ", jittered" : "";
  return kind === "fixed"
    ? `${span(baseSeconds)} apart${spread}`
    : `${kind} from ${span(baseSeconds)} to ${span(maxSeconds)}${spread}`;
}
