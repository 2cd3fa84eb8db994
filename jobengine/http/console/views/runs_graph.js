// The pictures of a run within its page: graph and chart, each made once and then kept up to date.

import { read } from "../api.js";
import { GanttView } from "../graph/gantt_view.js";
import { GraphView, STEP } from "../graph/graph_view.js";
import { layoutAside } from "../graph/layout.js";
import { legendOf } from "../graph/looks.js";
import { Lanes } from "../graph/spans.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../preact.js";
import { ErrorNote } from "../parts.js";
import { hasEnded } from "./runs_live.js";

/** What a graph's layout depends on. */
const shapeOf = (graph) => `${graph.nodes.map((node) => `${node.key} ${node.level}`).join("\n")}\n${graph.edges}`;

export function GraphPane({ live, graph, version, selected, onSelect }) {
  const host = useRef(null);
  const view = useRef(null);
  const shape = useRef({ text: "", layout: null });
  const [error, setError] = useState(null);
  useLayoutEffect(() => {
    view.current = new GraphView(host.current, { onSelect, nowMs: live.nowMs });
    host.current.graph = view.current;
    return () => view.current.end();
  }, [live]);
  useEffect(() => {
    const text = shapeOf(graph);
    if (text === shape.current.text) {
      view.current.show(graph, shape.current.layout);
      return undefined;
    }
    const ending = new AbortController();
    layoutAside(graph.levelsOfNodes, graph.edges, ending.signal).then((layout) => {
      shape.current = { text, layout };
      view.current.show(graph, layout);
      view.current.select(selected);
    }, setError);
    return () => ending.abort();
  }, [graph, live]);
  useEffect(() => view.current.changed(), [version]);
  useEffect(() => view.current.select(selected), [selected]);
  return html`<div class="graph-pane">
    <div class="graph-bar">
      <${Search} graph=${graph} view=${view} />
      <${Scales} view=${view} />
    </div>
    <${ErrorNote} error=${error} />
    <div class="graph" ref=${host}></div>
    <${Legend} />
  </div>`;
}

function Scales({ view }) {
  return html`<div class="actions" role="group" aria-label="Scale">
    <button type="button" aria-label="Zoom in" onClick=${() => view.current.zoom(STEP)}>+</button>
    <button type="button" aria-label="Zoom out" onClick=${() => view.current.zoom(1 / STEP)}>−</button>
    <button type="button" title="Show all of it" onClick=${() => view.current.fit()}>Fit</button>
  </div>`;
}

/** Finds nodes by a part of their key; Enter goes to the next one. */
function Search({ graph, view }) {
  const [text, setText] = useState("");
  const [place, setPlace] = useState(-1);
  const wanted = text.trim().toLowerCase();
  const found = wanted ? graph.nodes.filter((node) => node.key.toLowerCase().includes(wanted)).map((node) => node.key) : null;
  useEffect(() => view.current?.find(found && new Set(found)), [wanted, graph]);
  const write = (event) => {
    setText(event.target.value);
    setPlace(-1);
  };
  const go = (event) => {
    if (event.key !== "Enter" || !found?.length) return;
    event.preventDefault();
    const next = (place + (event.shiftKey ? -1 : 1) + found.length) % found.length;
    setPlace(next);
    view.current.reveal(found[next]);
  };
  return html`<label class="graph-search">
    <span class="visually-hidden">Find a node by its key</span>
    <input type="search" placeholder="Find a node" value=${text} onInput=${write} onKeyDown=${go} />
    <span class="quiet" role="status">${found && (found.length ? `${place < 0 ? "" : `${place + 1} of `}${found.length}` : "none")}</span>
  </label>`;
}

function Legend() {
  const host = useRef(null);
  useLayoutEffect(() => {
    const critical = document.createElement("li");
    critical.className = "legend-critical";
    critical.textContent = "critical path";
    const list = legendOf();
    list.append(critical);
    host.current.replaceChildren(list);
  }, []);
  return html`<div class="graph-bar" ref=${host}></div>`;
}

const KINDS = [
  ["queue", "queues"],
  ["run look-running", "runs"],
  ["run look-completed", "completed"],
  ["run look-retrying", "failed, then retried"],
  ["run look-failed", "failed"],
  ["backoff", "backs off"],
];

export function GanttPane({ live, run, graph, onSelect }) {
  const host = useRef(null);
  const view = useRef(null);
  const [error, setError] = useState(null);
  const [byStart, setByStart] = useState(false);
  useLayoutEffect(() => {
    view.current = new GanttView(host.current, { onSelect, nowMs: live.nowMs });
    return () => view.current.end();
  }, [live]);
  useEffect(() => {
    const ending = new AbortController();
    const missed = [];
    let lanes = null;
    const leave = live.listen((events) => {
      if (!lanes) return missed.push(...events);
      for (const event of events) lanes.apply(event);
      view.current.changed();
    });
    read(`${live.path}/gantt`, { signal: ending.signal }).then((gantt) => {
      lanes = new Lanes(gantt);
      for (const event of missed) lanes.apply(event);
      view.current.show(lanes, !hasEnded(gantt));
    }, (caught) => ending.signal.aborted || setError(caught));
    return () => {
      ending.abort();
      leave();
    };
  }, [live, graph.nodes.length, hasEnded(run)]);
  useEffect(() => view.current.sortByStart(byStart), [byStart]);
  return html`<div class="graph-pane">
    <div class="graph-bar">
      <button type="button" aria-pressed=${String(byStart)} onClick=${() => setByStart(!byStart)}>By start</button>
      <${Scales} view=${view} />
    </div>
    <${ErrorNote} error=${error} />
    <div class="gantt" ref=${host}></div>
    <div class="graph-bar">
      <ul class="look-legend" aria-label="Legend">
        ${KINDS.map(([name, text]) => html`<li key=${name}><span class=${`gantt-swatch gantt-${name}`}></span>${text}</li>`)}
        <li class="legend-critical">critical path</li>
      </ul>
    </div>
  </div>`;
}
