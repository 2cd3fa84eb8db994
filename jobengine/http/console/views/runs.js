// Runs, newest first: filtered by what the address says, and live.
//
// The first page is read again whenever a run of the tenant begins or ends. How far a run is that has
// not ended is counted here, from its nodes once and then from the tenant's events.

import { queryOf, useRead } from "../api.js";
import { useFeed } from "../feed.js";
import { shortId, span } from "../format.js";
import { html, useEffect, useRef, useState } from "../preact.js";
import { Age, Empty, ErrorNote, PageHead, State, Time } from "../parts.js";
import { Link, navigate } from "../router.js";
import { hasEnded } from "./runs_live.js";
import { RunProgress } from "./runs_parts.js";
import { useTallies } from "./runs_tally.js";

const STATES = ["pending", "running", "completed", "failed", "cancelled"];
const FIELDS = ["state", "dagId", "project", "createdFrom", "createdBefore"];
const REREAD_MS = 400;
const LATE_MS = 15_000;

export function Runs({ query }) {
  const wanted = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) ?? ""]));
  const [tokens, setTokens] = useState([]);
  const filters = queryOf(wanted);
  useEffect(() => setTokens([]), [filters]);
  const path = `/runs${queryOf({ ...wanted, pageSize: 25, pageToken: tokens.at(-1) })}`;
  const { data, error, loading, reload } = useRead(path, { everyMs: LATE_MS });
  const runs = data?.items ?? [];
  useRereading(reload);
  const tallies = useTallies(runs.filter((run) => !hasEnded(run)));
  const go = (fields) => navigate(`/runs${queryOf({ ...wanted, ...fields })}`);
  return html`<${PageHead} title="Runs" />
    <div class="stack">
      <${Filters} wanted=${wanted} go=${go} />
      <${ErrorNote} error=${error} retry=${reload} />
      <section class="card" aria-busy=${String(loading)}>
        <div class="scroll">
          <table class="runs cards">
            <caption class="visually-hidden">Runs, newest first</caption>
            <thead><tr>
              <th scope="col">Run</th><th scope="col">State</th><th scope="col">Nodes</th><th scope="col">DAG</th>
              <th scope="col">Project</th><th scope="col">Created</th><th scope="col" class="number">Took</th>
            </tr></thead>
            <tbody>${runs.map((run) => html`<${RunRow} key=${run.runId} run=${run} tally=${tallies.get(run.runId)} />`)}</tbody>
          </table>
        </div>
        ${data && !runs.length && html`<${Empty}>${filters ? "No run is like that." : "There is no run yet."}<//>`}
      </section>
      <nav class="pager" aria-label="Pages of runs">
        <button type="button" disabled=${!tokens.length} onClick=${() => setTokens(tokens.slice(0, -1))}>Newer</button>
        <button type="button" disabled=${!data?.nextPageToken} onClick=${() => setTokens([...tokens, data.nextPageToken])}>Older</button>
        <span class="quiet">page ${tokens.length + 1}</span>
      </nav>
    </div>`;
}

/** Reads the list again soon after a run has changed. */
function useRereading(reload) {
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  useFeed(
    (entries) => {
      if (timer.current || !entries.some(moves)) return;
      timer.current = setTimeout(() => {
        timer.current = 0;
        reload();
      }, REREAD_MS);
    },
    [reload],
  );
}

const moves = ({ kind, eventType }) =>
  kind !== "event" || (eventType.startsWith("run.") && eventType !== "run.node_opened");

function RunRow({ run, tally }) {
  const counts = hasEnded(run) ? run.rollUp : tally;
  return html`<tr data-run=${run.runId}>
    <td data-label="Run" class="run-name">
      <${Link} to=${`/runs/${run.runId}`}>${run.runToken}<//>
      <span class="id quiet" title=${run.runId}>${shortId(run.runId)}</span>
    </td>
    <td data-label="State"><${State} state=${run.state} reason=${!hasEnded(run) && run.cancelRequestedAt ? "being cancelled" : undefined} /></td>
    <td data-label="Nodes"><${RunProgress} counts=${counts} nodes=${run.nodes} /></td>
    <td data-label="DAG">${run.dagId ? `${run.dagId} v${run.dagVersion}` : html`<span class="quiet">–</span>`}</td>
    <td data-label="Project">${run.projectId ?? html`<span class="quiet">–</span>`}</td>
    <td data-label="Created"><${Time} at=${run.createdAt} /></td>
    <td data-label="Took" class="number">${took(run)}</td>
  </tr>`;
}

function took(run) {
  if (run.durationMs !== undefined) return span(run.durationMs / 1_000);
  return run.startedAt && !hasEnded(run) ? html`<${Age} since=${run.startedAt} />` : "–";
}

function Filters({ wanted, go }) {
  const form = useRef(null);
  const states = wanted.state.split(",");
  const apply = (event) => {
    event.preventDefault();
    const said = new FormData(form.current);
    const instants = ["createdFrom", "createdBefore"].map((name) => [name, instantOf(said.get(name))]);
    go({ state: said.getAll("state"), dagId: said.get("dagId").trim(), project: said.get("project").trim(), ...Object.fromEntries(instants) });
  };
  const given = FIELDS.some((name) => wanted[name]);
  return html`<form ref=${form} class="card run-filters" role="search" aria-label="Filter runs" onSubmit=${apply} onChange=${apply}>
    <fieldset>
      <legend class="visually-hidden">States</legend>
      ${STATES.map((state) => html`<label key=${state} class="chip">
        <input type="checkbox" name="state" value=${state} checked=${states.includes(state)} />${state}
      </label>`)}
      ${given && html`<button type="button" class="plain" onClick=${() => navigate("/runs")}>Clear filters</button>`}
    </fieldset>
    <div class="fields">
      <label>DAG<input name="dagId" value=${wanted.dagId} spellcheck=${false} /></label>
      <label>Project<input name="project" value=${wanted.project} spellcheck=${false} /></label>
      <label>Created from<input name="createdFrom" type="datetime-local" step="1" value=${localOf(wanted.createdFrom)} /></label>
      <label>Created before<input name="createdBefore" type="datetime-local" step="1" value=${localOf(wanted.createdBefore)} /></label>
    </div>
    <button class="visually-hidden" tabindex="-1">Apply</button>
  </form>`;
}

const instantOf = (local) => (local ? new Date(local).toISOString() : "");

/** An instant as its field wants it: local time without a zone. */
function localOf(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
