// What pages are made of. Everything that comes from the engine is drawn as text.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";
import { instant, shortId, span } from "./format.js";
import { Link } from "./router.js";

export function Time({ at, fallback = "–" }) {
  if (!at) return fallback;
  return html`<time datetime=${at} title=${at}>${instant(at)}</time>`;
}

// Seconds since an instant, counted on while it is looked at.
export function Age({ since }) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, (now - Date.parse(since)) / 1000);
  const shown = seconds < 60 ? `${Math.floor(seconds)} s` : span(seconds);
  return html`<time datetime=${since} title=${since}>${shown}</time>`;
}

// `state` of a job, a run or a node; the reason in words beside it.
export function State({ state, reason }) {
  return html`<span class="state" data-state=${state}>${state.replaceAll("_", " ")}${
    reason && html`<span class="reason">${reason.replaceAll("_", " ")}</span>`
  }</span>`;
}

export function JobLink({ id, full = false }) {
  return html`<${Link} to=${`/jobs/${id}`} class="id" title=${id}>${full ? id : shortId(id)}<//>`;
}

export function ErrorNote({ error, retry }) {
  if (!error) return null;
  return html`<div class="note" data-kind="error" role="alert">
    <p>${error.message}</p>
    ${error.traceId && html`<p class="quiet">trace id <code>${error.traceId}</code></p>`}
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

// JSON as people read it; anything but JSON as it is.
export function Json({ value, label }) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return html`<pre class="json" tabindex="0" role="region" aria-label=${label}>${text}</pre>`;
}

export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  if (!navigator.clipboard) return null;
  return html`<button type="button" class="plain" aria-label=${label} onClick=${copy}>
    ${done ? "copied" : "copy"}
  </button>`;
}

export function Progress({ progress }) {
  if (!progress) return null;
  const { percent, message } = progress;
  return html`<div class="progress">
    ${
      percent !== undefined &&
      html`<progress max="100" value=${percent} aria-label="Progress"></progress>
        <span>${Math.round(percent)} %</span>`
    }
    ${message && html`<span class="quiet">${message}</span>`}
  </div>`;
}

// A modal dialog; the browser keeps the focus within it. `close` is told that it was left.
export function Dialog({ title, close, children, closable = true }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close();
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    if (closable) close();
  };
  const id = `dialog-${title.replace(/\W+/g, "-").toLowerCase()}`;
  return html`<dialog
    ref=${dialog}
    aria-labelledby=${id}
    closedby=${closable ? "closerequest" : "none"}
    onCancel=${cancel}
  >
    <h2 id=${id}>${title}</h2>
    ${children}
  </dialog>`;
}

// A page's heading, its actions beside it.
export function PageHead({ title, children }) {
  return html`<div class="page-head">
    <h1 tabindex="-1">${title}</h1>
    <div class="actions">${children}</div>
  </div>`;
}
