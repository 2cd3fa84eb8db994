// The nodes of a run as a table: what the graph shows, for reading, filtering and hearing.

import { count, span } from "../format.js";
import { LOOKS, lookOf } from "../graph/looks.js";
import { html, useState } from "../preact.js";
import { Empty, JobLink } from "../parts.js";
import { Look } from "./runs_parts.js";

const ROWS = 100;

export function NodeTable({ live, graph, onSelect }) {
  const [wanted, setWanted] = useState("");
  const [text, setText] = useState("");
  const [shown, setShown] = useState(ROWS);
  const counts = new Map();
  for (const node of graph.nodes) counts.set(lookOf(node), (counts.get(lookOf(node)) ?? 0) + 1);
  const part = text.trim().toLowerCase();
  const found = graph.nodes.filter((node) => (!wanted || lookOf(node) === wanted) && node.key.toLowerCase().includes(part));
  return html`<div class="graph-pane">
    <div class="graph-bar">
      <label class="graph-search">
        <span class="visually-hidden">Find nodes by key</span>
        <input type="search" placeholder="Find nodes" value=${text} onInput=${(event) => setText(event.target.value)} />
      </label>
      <div class="chips" role="group" aria-label="States">
        ${Object.keys(LOOKS).filter((look) => counts.has(look)).map((look) => html`<button
          key=${look} type="button" aria-pressed=${String(wanted === look)}
          onClick=${() => setWanted(wanted === look ? "" : look)}
        ><${Look} look=${look} /> ${count(counts.get(look))}</button>`)}
      </div>
    </div>
    <div class="scroll">
      <table class="nodes">
        <caption class="visually-hidden">Nodes of the run in the order of its plan</caption>
        <thead><tr>
          <th scope="col">Node</th><th scope="col">State</th><th scope="col">Type</th>
          <th scope="col" class="number">Attempt</th><th scope="col" class="number">Level</th>
          <th scope="col" class="number">Queued</th><th scope="col" class="number">Ran</th>
          <th scope="col">Critical</th><th scope="col">Job</th>
        </tr></thead>
        <tbody>${found.slice(0, shown).map((node) => html`<${NodeRow} key=${node.key} node=${node} nowMs=${live.nowMs()} onSelect=${onSelect} />`)}</tbody>
      </table>
    </div>
    ${!found.length && html`<${Empty}>No node is like that.<//>`}
    ${found.length > shown && html`<p class="more"><button type="button" onClick=${() => setShown(shown + ROWS)}>
      Show more <span class="quiet">${count(found.length - shown)} left</span>
    </button></p>`}
  </div>`;
}

function NodeRow({ node, nowMs, onSelect }) {
  const ms = (value) => (value === undefined ? "–" : span(value / 1_000));
  const running = node.state === "running" && node.startedAt;
  return html`<tr data-node=${node.key} data-state=${node.state}>
    <th scope="row"><button type="button" class="plain node-key" onClick=${() => onSelect(node.key)}>${node.key}</button></th>
    <td><${Look} look=${lookOf(node)} /> ${node.error && html`<span class="quiet">${node.error}</span>`}
      ${node.reason && node.reason !== "error" && html`<span class="quiet">${node.reason.replaceAll("_", " ")}</span>`}</td>
    <td class="quiet">${node.type}</td>
    <td class="number">${node.attempt}</td>
    <td class="number">${node.level + 1}</td>
    <td class="number">${ms(node.queueMs)}</td>
    <td class="number">${running ? span((nowMs - Date.parse(node.startedAt)) / 1_000) : ms(node.runMs)}</td>
    <td>${node.onCriticalPath ? "yes" : ""}</td>
    <td><${JobLink} id=${node.jobId} /></td>
  </tr>`;
}
