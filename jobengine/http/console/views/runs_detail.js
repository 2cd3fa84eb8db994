// A run: how it stands, drawn as a graph, as a chart over time, or as a table, each live.
//
// The address names the view and the node that is looked at, so that both can be kept and sent.

import { count, instant, shortId, span } from "../format.js";
import { html, useCallback } from "../preact.js";
import { Age, Copy, ErrorNote, Json, PageHead, State, Time } from "../parts.js";
import { Link, navigate } from "../router.js";
import { RunActs } from "./runs_actions.js";
import { GanttPane, GraphPane } from "./runs_graph.js";
import { hasEnded, useRun } from "./runs_live.js";
import { NodePanel } from "./runs_panel.js";
import { RunProgress } from "./runs_parts.js";
import { NodeTable } from "./runs_table.js";

const VIEWS = { graph: "Graph", chart: "Chart", nodes: "Nodes" };
const LINKS = { connecting: "connecting…", live: "", reconnecting: "reconnecting…", ended: "" };

export function Run({ params, query }) {
  const { runId } = params;
  const { live, run, graph, signal, link, error, version } = useRun(runId);
  const view = query.get("view") in VIEWS ? query.get("view") : "graph";
  const selected = query.get("node");
  const go = (fields) => {
    const next = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(fields)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    navigate(`/runs/${runId}${next.size ? `?${next}` : ""}`, { replace: true });
  };
  const select = useCallback((node) => go({ node }), [runId]);
  if (!run || !graph) {
    return html`<${PageHead} title="Run" />${error ? html`<${ErrorNote} error=${error} />` : html`<p class="quiet" role="status">reading the run…</p>`}`;
  }
  const shared = { live, run, graph, version, selected, onSelect: select };
  return html`<${PageHead} title=${run.dagId ? `${run.dagId} · ${run.runToken}` : run.runToken}>
      <span class="quiet run-link" data-link=${link} role="status">${LINKS[link]}</span>
      <${RunActs} run=${run} live=${live} />
    <//>
    <div class="stack" data-run-state=${run.state}>
    <${ErrorNote} error=${error} />
    <${Summary} run=${run} graph=${graph} signal=${signal} />
    <section class="card run-views">
      <header>
        <${Views} chosen=${view} choose=${(name) => go({ view: name === "graph" ? "" : name })} />
        <span class="quiet">${count(graph.nodes.length)} nodes, ${count(graph.edges.length / 2)} edges, ${count(graph.levels)} levels</span>
      </header>
      <div class=${selected ? "run-split" : ""}>
        <div id="run-view" role="tabpanel" aria-label=${VIEWS[view]}>
          ${view === "graph" && html`<${GraphPane} ...${shared} />`}
          ${view === "chart" && html`<${GanttPane} ...${shared} />`}
          ${view === "nodes" && html`<${NodeTable} ...${shared} />`}
        </div>
        ${selected && html`<${NodePanel} live=${live} graph=${graph} nodeKey=${selected} onSelect=${select} run=${run} />`}
      </div>
    </section>
    ${run.inputs && Object.keys(run.inputs).length > 0 && html`<details class="card run-inputs"><summary>Inputs</summary><${Json} value=${run.inputs} label="Inputs" /></details>`}
  </div>`;
}

function Views({ chosen, choose }) {
  const names = Object.keys(VIEWS);
  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = names[(names.indexOf(chosen) + step + names.length) % names.length];
    choose(next);
    event.currentTarget.querySelector(`[data-view="${next}"]`).focus();
  };
  return html`<div class="tabs" role="tablist" aria-label="Views of the run" onKeyDown=${walk}>
    ${names.map((name) => html`<button
      key=${name} type="button" role="tab" class="plain" data-view=${name} aria-controls="run-view"
      aria-selected=${String(name === chosen)} tabindex=${name === chosen ? 0 : -1} onClick=${() => choose(name)}
    >${VIEWS[name]}</button>`)}
  </div>`;
}

function tookOf(run) {
  if (run.durationMs !== undefined) return span(run.durationMs / 1_000);
  return run.startedAt && !hasEnded(run) ? html`<${Age} since=${run.startedAt} /> so far` : "–";
}

function Summary({ run, graph, signal }) {
  const counts = graph.counts();
  const rows = [
    ["Took", tookOf(run)],
    ["Critical path", `${count(graph.criticalPath.length)} nodes${graph.criticalMs ? `, about ${span(graph.criticalMs / 1_000)}` : ""}`],
    ["Created", html`<${Time} at=${run.createdAt} /> <span class="quiet">by ${run.createdBy}</span>`],
    ["Started", html`<${Time} at=${run.startedAt} />`],
    ["Finished", run.finishedAt && html`<${Time} at=${run.finishedAt} />`],
    ["DAG", run.dagId && `${run.dagId}, version ${run.dagVersion}`],
    ["Project", run.projectId],
    ["Runs again", run.replayOf && html`<${Link} to=${`/runs/${run.replayOf}`} class="id">${shortId(run.replayOf)}<//>`],
    ["Part of", run.parentRunId && html`<${Link} to=${`/runs/${run.parentRunId}?node=${encodeURIComponent(run.parentKey)}`} class="id">${run.parentKey}<//>`],
    ["Outputs", run.outputsHash && html`<code title=${run.outputsHash}>${run.outputsHash.replace("sha256:", "").slice(0, 16)}…</code> <${Copy} text=${run.outputsHash} label="Copy the hash of the outputs" />`],
    ["Run", html`<code title=${run.runId}>${shortId(run.runId)}</code> <${Copy} text=${run.runId} label="Copy the id of the run" />`],
  ];
  return html`<section class="card run-summary" aria-label="Summary">
    <div class="run-now">
      <${State} state=${run.state} reason=${!hasEnded(run) && run.cancelRequestedAt ? "cancel requested" : undefined} />
      <p class="first-signal" data-signal=${signal?.type} role="status">${signal
        ? html`${signal.message} <span class="quiet">${instant(signal.at)}</span>`
        : html`<span class="quiet">nothing has moved yet</span>`}</p>
      <${RunProgress} counts=${counts} nodes=${graph.nodes.length} />
    </div>
    <dl class="run-facts">
      ${rows.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
    ${run.rollUp?.errors?.length > 0 && html`<ul class="run-errors" aria-label="Failed nodes">
      ${run.rollUp.errors.slice(0, 10).map(({ key, error }) => html`<li key=${key}>
        <${Link} to=${`/runs/${run.runId}?node=${encodeURIComponent(key)}`}>${key}<//> <span class="quiet">${error}</span></li>`)}
    </ul>`}
  </section>`;
}
