// A job's log lines: those stored, then each as it is stored until the job ends, while the page is
// looked at.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";
import { call } from "./api.js";
import { attention } from "./attention.js";
import { instant } from "./format.js";
import { Empty } from "./parts.js";
import { readEvents } from "./sse.js";
import { session } from "./session.js";
import { useStore } from "./store.js";

const LINES_MAX = 5_000;
const WAIT_MS = 1_000;

// {lines, dropped, error}. The stream goes on behind the last line after any cut.
function useLogs(jobId, running) {
  const generation = useStore(session, (value) => value.generation);
  const watched = useStore(attention);
  const [state, setState] = useState({ lines: [], dropped: 0, error: null });
  const last = useRef(null);
  useEffect(() => {
    if (!watched || !session.get().token) return undefined;
    const abort = new AbortController();
    let pending = [];
    const draw = () => {
      const come = pending;
      pending = [];
      setState((was) => {
        const lines = [...was.lines, ...come];
        const dropped = Math.max(0, lines.length - LINES_MAX);
        return { lines: lines.slice(dropped), dropped: was.dropped + dropped, error: null };
      });
    };
    const take = ({ id, name, data }) => {
      if (name !== "log" || abort.signal.aborted) return;
      last.current = id;
      if (!pending.length) requestAnimationFrame(draw);
      pending.push({ id, ...JSON.parse(data) });
    };
    follow(jobId, running, last, take, (error) => setState((was) => ({ ...was, error })), abort.signal);
    return () => abort.abort();
  }, [jobId, running, generation, watched]);
  return state;
}

// Until the engine has sent all lines of a job that has ended. While it is `running` to this page, the
// engine may tell an end that the page has not heard of, or that a retry has overtaken: then ask again.
async function follow(jobId, running, last, take, say, signal) {
  let complete = false;
  const hear = (message) => {
    if (message.name === "end") complete = !JSON.parse(message.data).code;
    take(message);
  };
  while (!signal.aborted) {
    try {
      const headers = last.current === null ? {} : { "Last-Event-ID": last.current };
      await readEvents(await call(`/stream/logs/${jobId}`, { headers, signal }), hear);
      if (complete && !running) return;
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      say(error);
      if (error.status === 403 || error.status === 404) return;
    }
    await new Promise((wake) => setTimeout(wake, WAIT_MS));
  }
}

export function Logs({ jobId, running }) {
  const { lines, dropped, error } = useLogs(jobId, running);
  const [kept, setKept] = useState(true);
  const box = useRef(null);
  useLayoutEffect(() => {
    if (kept && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, kept]);
  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    setKept(scrollHeight - scrollTop - clientHeight < 24);
  };
  return html`<section class="card" aria-label="Logs">
    <header>
      <h2>Logs</h2>
      <div class="actions">
        ${error && html`<span class="quiet" role="status">${error.message}</span>`}
        <button type="button" aria-pressed=${kept} onClick=${() => setKept(!kept)}>Follow</button>
      </div>
    </header>
    ${dropped > 0 && html`<p class="note">${dropped} earlier lines are not shown.</p>`}
    ${lines.length
      ? html`<ol class="logs" ref=${box} onScroll=${scrolled} tabindex="0" aria-label="Log lines">
          ${lines.map((line) => html`<${Line} key=${line.id} line=${line} />`)}
        </ol>`
      : html`<${Empty}>${running ? "Nothing said so far." : "It said nothing."}<//>`}
  </section>`;
}

function Line({ line }) {
  return html`<li data-level=${line.level}>
    <time datetime=${line.at} title=${line.at}>${instant(line.at)}</time>
    <span class="level">${line.level}</span><span class="text">${line.text}</span>
  </li>`;
}
