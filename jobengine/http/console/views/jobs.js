// The list of jobs. Filters are in the address; rows that are shown follow the live feed, and so do
// those that are being read: an answer may be older than the events that overtook it.

import { html, useCallback, useEffect, useMemo, useRef, useState } from "../preact.js";
import { queryOf, read } from "../api.js";
import { useFeed } from "../feed.js";
import { between, count, short } from "../format.js";
import { FIELDS, JobFilters } from "../job_filters.js";
import { afterEvent } from "../job_facts.js";
import { Age, Empty, ErrorNote, JobLink, PageHead, Progress, State, Time } from "../parts.js";
import { session } from "../session.js";
import { useStore } from "../store.js";

const PAGE_SIZE = 50;
const ROWS_MAX = 1_000;
const NEW_MAX = 1_000;

export function Jobs({ query }) {
  const asked = query.toString();
  const filters = useMemo(
    () => Object.fromEntries(FIELDS.map((name) => [name, query.get(name) ?? ""])),
    [asked],
  );
  const list = useJobs(filters);
  return html`<${PageHead} title="Jobs">
      <span class="quiet" role="status">
        ${list.loading ? "reading…" : `${count(list.jobs.length)}${list.next ? "+" : ""} shown, newest first`}
      </span>
      <button type="button" onClick=${list.reload}>
        ${list.fresh ? `Show ${short(list.fresh)}${list.fresh >= NEW_MAX ? "+" : ""} new` : "Reload"}
      </button>
    <//>
    <div class="stack">
      <${JobFilters} filters=${filters} />
      <${ErrorNote} error=${list.error} retry=${list.reload} />
      <section class="card" aria-label="Jobs">
        <${JobTable} jobs=${list.jobs} />
        ${!list.loading && !list.error && !list.jobs.length && html`<${Empty}>No job matches.<//>`}
        ${list.next && html`<${More} list=${list} />`}
      </section>
    </div>`;
}

// {jobs, next, loading, error, fresh, reload, more}. `fresh`: jobs that were created since and match
// as far as an event can tell.
function useJobs(filters) {
  const generation = useStore(session, (value) => value.generation);
  const [state, setState] = useState({ jobs: [], next: null, loading: true, error: null });
  const [fresh, setFresh] = useState(new Set());
  const [round, setRound] = useState(0);
  const page = useRef(null);
  const missed = useRef(null);
  const reload = useCallback(() => setRound((one) => one + 1), []);

  const load = useCallback(
    async (pageToken) => {
      page.current?.abort();
      const abort = (page.current = new AbortController());
      const events = (missed.current = []);
      setState((was) => ({ ...was, loading: true }));
      try {
        const path = `/jobs${queryOf({ ...filters, pageSize: PAGE_SIZE, pageToken })}`;
        const { items, nextPageToken } = await read(path, { signal: abort.signal });
        const come = withEvents(items, events);
        setState((was) => ({
          jobs: pageToken ? [...was.jobs, ...come] : come,
          next: nextPageToken,
          loading: false,
          error: null,
        }));
      } catch (error) {
        if (!abort.signal.aborted) setState((was) => ({ ...was, loading: false, error }));
      } finally {
        if (missed.current === events) missed.current = null;
      }
    },
    [filters],
  );

  useEffect(() => {
    setFresh(new Set());
    load(null);
    return () => page.current?.abort();
  }, [load, generation, round]);

  useFeed(
    (entries) => {
      if (entries.some((entry) => entry.kind === "resync")) reload();
      const said = entries.filter((entry) => entry.kind === "event" && entry.job);
      if (!said.length) return;
      missed.current?.push(...said);
      setState((was) => ({ ...was, jobs: withEvents(was.jobs, said) }));
      const created = said.filter((entry) => entry.eventType === "job.created" && matches(entry.job, filters));
      if (created.length) setFresh((was) => joined(was, created));
    },
    [filters, reload],
  );

  const known = new Set(state.jobs.map((job) => job.jobId));
  const unseen = [...fresh].filter((id) => !known.has(id)).length;
  return { ...state, fresh: unseen, reload, more: () => load(state.next) };
}

function withEvents(jobs, said) {
  const byJob = new Map();
  for (const entry of said) byJob.set(entry.job.id, [...(byJob.get(entry.job.id) ?? []), entry]);
  if (!jobs.some((job) => byJob.has(job.jobId))) return jobs;
  return jobs.map((job) => (byJob.get(job.jobId) ?? []).reduce(afterEvent, job));
}

function joined(ids, created) {
  if (ids.size >= NEW_MAX) return ids;
  return new Set([...ids, ...created.slice(0, NEW_MAX).map((entry) => entry.job.id)]);
}

// Events name neither source nor labels, and a new job is in its first state.
function matches(job, { jobType, queue, runId, sourceId, label, state, createdBefore }) {
  return (
    (!jobType || job.type === jobType) &&
    (!queue || job.queue === queue) &&
    (!runId || job.runId === runId) &&
    !sourceId &&
    !label &&
    !createdBefore &&
    (!state || /pending|scheduled|running/.test(state))
  );
}

function More({ list }) {
  if (list.jobs.length >= ROWS_MAX) {
    return html`<p class="empty">Only the first ${count(ROWS_MAX)} are shown; filters narrow the list.</p>`;
  }
  return html`<div class="more">
    <button type="button" disabled=${list.loading} onClick=${list.more}>Load more</button>
  </div>`;
}

function JobTable({ jobs }) {
  if (!jobs.length) return null;
  return html`<div class="scroll"><table class="job-list">
    <thead><tr>
      <th scope="col">Job</th><th scope="col">State</th><th scope="col">Type</th><th scope="col">Queue</th>
      <th scope="col" class="number">Attempt</th><th scope="col">Created</th><th scope="col">Lasts</th>
    </tr></thead>
    <tbody>${jobs.map((job) => html`<${JobRow} key=${job.jobId} job=${job} />`)}</tbody>
  </table></div>`;
}

function JobRow({ job }) {
  return html`<tr data-job=${job.jobId}>
    <td data-label="Job"><${JobLink} id=${job.jobId} /></td>
    <td data-label="State">
      <${State} state=${job.state} reason=${job.reason} />
      ${job.state === "running" && html`<${Progress} progress=${job.progress} />`}
    </td>
    <td data-label="Type">${job.jobType}</td>
    <td data-label="Queue" class="quiet">${job.queue}</td>
    <td data-label="Attempt" class="number">${job.attempt || "–"}</td>
    <td data-label="Created"><${Time} at=${job.createdAt} /></td>
    <td data-label="Lasts" class="lasts"><${Lasts} job=${job} /></td>
  </tr>`;
}

// How long it has been waiting or running, or ran.
function Lasts({ job }) {
  if (job.state === "running" && job.startedAt) return html`<${Age} since=${job.startedAt} />`;
  if (job.finishedAt) return job.startedAt ? between(job.startedAt, job.finishedAt) : "–";
  return html`<span class="quiet"><${Age} since=${job.createdAt} /></span>`;
}
