// One job: what it is, how it went, why it waits, what it says, and what can be done about it.

import { html, useEffect, useRef, useState } from "../preact.js";
import { useRead } from "../api.js";
import { useFeed } from "../feed.js";
import { Artifacts } from "../job_artifacts.js";
import { Definition } from "../job_definition.js";
import { afterEvent, hasEnded, isWaiting } from "../job_facts.js";
import { Attempts, History } from "../job_history.js";
import { Logs } from "../job_logs.js";
import { Waiting } from "../job_waiting.js";
import { Operation } from "../operation.js";
import { Age, Copy, ErrorNote, JobLink, Json, PageHead, Progress, State, Time } from "../parts.js";
import { Link, navigate } from "../router.js";
import { between } from "../format.js";

const REREAD_MS = 250;

export function Job({ params }) {
  const { jobId } = params;
  const root = `/jobs/${encodeURIComponent(jobId)}`;
  const [round, again] = useRounds();
  const found = useRead(root, { round });
  const history = useRead(`${root}/history?pageSize=500`, { round });
  const job = useLive(jobId, found.data, again);
  if (!job) {
    return html`<${PageHead} title="Job" /><${ErrorNote} error=${found.error} retry=${found.reload} />`;
  }
  const items = history.data?.items ?? [];
  return html`<${PageHead} title=${job.jobType}><${Acts} job=${job} root=${root} done=${again} /><//>
    <div class="stack">
      <${ErrorNote} error=${found.error ?? history.error} />
      <${Summary} job=${job} />
      ${isWaiting(job) && html`<${Waiting} root=${root} />`}
      ${job.error && html`<${Failure} error=${job.error} />`}
      <div class="columns">
        <div class="stack wide">
          <${Logs} jobId=${job.jobId} running=${!hasEnded(job)} />
          ${job.result !== undefined && html`<${Document} title="Result" value=${job.result} />`}
          <${Document} title="Payload" value=${job.payload} />
        </div>
        <div class="stack narrow">
          <${History} items=${items} more=${history.data?.nextPageToken} />
          <${Attempts} items=${items} />
          <${Artifacts} root=${root} round=${round} />
          <${Definition} job=${job} />
        </div>
      </div>
    </div>`;
}

// Counts on when something was heard, a few times a second at most.
function useRounds() {
  const [round, setRound] = useState(0);
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const again = () => {
    timer.current ||= setTimeout(() => {
      timer.current = 0;
      setRound((count) => count + 1);
    }, REREAD_MS);
  };
  return [round, again];
}

// The job as it was read, moved on by its events; what these do not say is read again.
function useLive(jobId, read, again) {
  const [job, setJob] = useState(null);
  useEffect(() => setJob(read), [read]);
  useFeed(
    (entries) => {
      const said = entries.filter((entry) => entry.kind === "event" && entry.job?.id === jobId);
      if (said.length) setJob((was) => was && said.reduce(afterEvent, was));
      const only = said.every((entry) => entry.eventType === "job.progressed");
      if ((said.length && !only) || entries.some((entry) => entry.kind === "resync")) again();
    },
    [jobId],
  );
  return job?.jobId === jobId ? job : null;
}

function Acts({ job, root, done }) {
  const ended = hasEnded(job);
  const asked = Boolean(job.cancelRequestedAt) && !ended;
  return html`<${Operation}
      label="Cancel"
      title="Cancel this job?"
      path=${`${root}:cancel`}
      danger=${true}
      disabled=${ended || asked}
      done=${done}
    >
      ${job.state === "running"
        ? "Its worker is asked to stop, and the job ends once it has."
        : "It will not start any more."}
    <//>
    <${Operation}
      label="Retry"
      title="Retry this job?"
      path=${`${root}:retry`}
      disabled=${job.state !== "failed" || Boolean(job.runKey)}
      done=${done}
      >The same job is scheduled again, with one attempt more.<//
    >
    <${Operation}
      label="Replay"
      title="Replay this job?"
      path=${`${root}:replay`}
      disabled=${!ended}
      done=${(made) => navigate(`/jobs/${made.jobId}`)}
      >A new job is created with the same payload. This one stays as it is.<//
    >`;
}

function Summary({ job }) {
  return html`<section class="card summary" aria-label="Summary">
    <dl>
      <div><dt>State</dt><dd role="status"><${State} state=${job.state} reason=${job.reason} />
        ${job.cancelRequestedAt && !hasEnded(job) && html` <span class="quiet">asked to stop</span>`}</dd></div>
      <div><dt>Job</dt><dd><span class="id">${job.jobId}</span>
        <${Copy} text=${job.jobId} label="Copy the job's id" /></dd></div>
      <div><dt>Attempt</dt><dd>${job.attempt || "–"} <span class="quiet">of ${job.maxRetries + 1}</span></dd></div>
      <div><dt>Created</dt><dd><${Time} at=${job.createdAt} /></dd></div>
      <div><dt>${hasEnded(job) ? "Took" : job.state === "running" ? "Running for" : "Waiting for"}</dt>
        <dd><${Lasted} job=${job} /></dd></div>
      ${job.runId &&
      html`<div><dt>Run</dt><dd>
        <${Link} class="id" to=${`/runs/${job.runId}`}>${job.runKey ?? job.runId}<//></dd></div>`}
      ${job.replayOf && html`<div><dt>Replay of</dt><dd><${JobLink} id=${job.replayOf} /></dd></div>`}
    </dl>
    ${job.state === "running" && html`<${Progress} progress=${job.progress} />`}
  </section>`;
}

function Lasted({ job }) {
  if (hasEnded(job)) return job.startedAt && job.finishedAt ? between(job.startedAt, job.finishedAt) : "–";
  return html`<${Age} since=${job.state === "running" ? job.startedAt : job.createdAt} />`;
}

function Failure({ error }) {
  return html`<section class="note" data-kind="error" aria-label="Error">
    <p><b>${error.class}</b> ${error.httpStatus && `(HTTP ${error.httpStatus})`} ${error.message}</p>
    <p class="quiet">${error.retryable === false ? "not worth retrying, says the worker" : "may be retried"}</p>
    ${error.stack && html`<details><summary>Stack</summary><${Json} value=${error.stack} label="Stack" /></details>`}
  </section>`;
}

function Document({ title, value }) {
  const text = JSON.stringify(value, null, 2);
  return html`<section class="card" aria-label=${title}>
    <header><h2>${title}</h2><${Copy} text=${text} label=${`Copy the ${title.toLowerCase()}`} /></header>
    <div class="body"><${Json} value=${value} label=${title} /></div>
  </section>`;
}
