// One node beside the picture: how its job stands, what it waits for, what it said last.

import { read } from "../api.js";
import { span } from "../format.js";
import { lookOf } from "../graph/looks.js";
import { Waiting } from "../job_waiting.js";
import { html, useEffect, useState } from "../preact.js";
import { Age, ErrorNote, JobLink, Time } from "../parts.js";
import { NodeActs } from "./runs_actions.js";
import { Look } from "./runs_parts.js";

const LINES = 12;
const PAGES_MAX = 20;
const LOOK_MS = 2_000;
const WAITING = new Set(["pending", "scheduled"]);

export function NodePanel({ live, graph, nodeKey, onSelect, run }) {
  const at = graph.byKey.get(nodeKey);
  if (at === undefined) return null;
  const node = graph.nodes[at];
  return html`<aside class="node-panel card" aria-label=${`Node ${node.key}`}>
    <header>
      <h2>${node.key}</h2>
      <button type="button" class="plain" aria-label="Close" onClick=${() => onSelect(null)}>✕</button>
    </header>
    <div class="body stack">
      <p><${Look} look=${lookOf(node)} /> ${node.reason && html`<span class="quiet">${node.reason.replaceAll("_", " ")}</span>`}</p>
      <${NodeActs} key=${`acts ${node.jobId}`} run=${run} node=${node} live=${live} />
      <${Facts} node=${node} graph=${graph} />
      <${Neighbours} title="Depends on" nodes=${graph.parents[at].map((each) => graph.nodes[each])} onSelect=${onSelect} />
      <${Neighbours} title="Needed by" nodes=${graph.children[at].map((each) => graph.nodes[each])} onSelect=${onSelect} />
      ${WAITING.has(node.state) && html`<${Waiting} key=${node.jobId} root=${`/jobs/${node.jobId}`} />`}
      ${node.kind === "job" && html`<${LogTail} key=${`log ${node.jobId}`} node=${node} />`}
    </div>
  </aside>`;
}

function Facts({ node, graph }) {
  const seconds = (ms) => (ms === undefined ? null : span(ms / 1_000));
  const runs = node.state === "running" && node.startedAt;
  const ran = runs ? html`<${Age} since=${node.startedAt} /> so far` : seconds(node.runMs);
  const rows = [
    ["Job", html`<${JobLink} id=${node.jobId} />`],
    ["Type", node.type],
    ["Attempt", node.attempt || null],
    ["Queued", seconds(node.queueMs)],
    ["Ran", ran],
    ["Usually takes", node.estimateMs ? seconds(node.estimateMs) : null],
    ["Error", node.error],
    ["Started", node.startedAt && html`<${Time} at=${node.startedAt} />`],
    ["Finished", node.finishedAt && html`<${Time} at=${node.finishedAt} />`],
    ["Starts when", node.trigger && node.trigger !== "all_succeeded" ? node.trigger.replaceAll("_", " ") : null],
    ["Instance of", node.of],
    ["Level", `${node.level + 1} of ${graph.levels}${node.onCriticalPath ? ", on the critical path" : ""}`],
    ["Result", node.kept ? "kept from an earlier run" : null],
  ];
  return html`<dl class="run-facts">
    ${rows.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

const NEIGHBOURS = 8;

function Neighbours({ title, nodes, onSelect }) {
  if (!nodes.length) return null;
  return html`<div>
    <h3>${title} ${nodes.length > NEIGHBOURS && html`<span class="quiet">${nodes.length}</span>`}</h3>
    <ul class="neighbours">
      ${nodes.slice(0, NEIGHBOURS).map((node) => html`<li key=${node.key}>
        <button type="button" class="plain" onClick=${() => onSelect(node.key)}><${Look} look=${lookOf(node)} word=${node.key} /></button>
      </li>`)}
    </ul>
  </div>`;
}

/** The last lines of the job's log, read on from where the last look ended. */
function LogTail({ node }) {
  const [lines, setLines] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    const ending = new AbortController();
    let timer = 0;
    const look = async () => {
      try {
        setLines(await tailOf(node.jobId, ending.signal));
        if (node.state === "running") timer = setTimeout(look, LOOK_MS);
      } catch (caught) {
        if (!ending.signal.aborted) setError(caught);
      }
    };
    look();
    return () => {
      ending.abort();
      clearTimeout(timer);
    };
  }, [node.jobId, node.state]);
  if (error) return html`<${ErrorNote} error=${error} />`;
  if (!lines?.length) return null;
  return html`<div>
    <h3>Log</h3>
    <ol class="log-tail">${lines.map((line, at) => html`<li key=${at} data-level=${line.level}>${line.text}</li>`)}</ol>
  </div>`;
}

async function tailOf(jobId, signal) {
  let [tail, token] = [[], ""];
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const answer = await read(`/jobs/${jobId}/logs?pageSize=500${token && `&pageToken=${encodeURIComponent(token)}`}`, { signal });
    tail = [...tail, ...answer.items].slice(-LINES);
    token = answer.nextPageToken;
    if (!token) break;
  }
  return tail;
}
