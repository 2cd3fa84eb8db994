// An act of an operator: a button, and a dialog that asks why. Reason and ticket go into the ledger.
// They are kept for the next act of this tab, since one incident takes several.

import { html, useRef, useState } from "./preact.js";
import { newKey, operate } from "./api.js";
import { Dialog, ErrorNote } from "./parts.js";
import { mayHave, session } from "./session.js";
import { useStore } from "./store.js";

let said = { reason: "", ticket: "" };

// `path` is what is posted to, `children` what the dialog explains; `done` gets the answer. The
// button is off, with a word why, where the token is known to lack `scope`.
export function Operation({
  label,
  title,
  path,
  body,
  done,
  children,
  danger = false,
  disabled = false,
  scope = "orch:operate",
}) {
  const [asking, setAsking] = useState(false);
  useStore(session, (value) => value.token);
  const allowed = mayHave(scope);
  return html`<button
      type="button"
      class=${danger ? "danger" : ""}
      disabled=${disabled || !allowed}
      title=${allowed ? "" : `The token does not have the scope ${scope}.`}
      onClick=${() => setAsking(true)}
    >
      ${label}
    </button>
    ${asking &&
    html`<${OperationDialog}
      ...${{ label, title, path, body, danger, done, children }}
      close=${() => setAsking(false)}
    />`}`;
}

function OperationDialog({ label, title, path, body, danger, done, children, close }) {
  const form = useRef(null);
  const key = useRef(newKey());
  const [{ error, busy }, setState] = useState({ error: null, busy: false });
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    said = Object.fromEntries(new FormData(form.current));
    setState({ error: null, busy: true });
    try {
      const answer = await operate(path, { body, ...said, key: key.current });
      close();
      done?.(answer);
    } catch (failed) {
      // A refusal is final for its key; what was not answered may have taken effect.
      if (failed.status) key.current = newKey();
      setState({ error: failed, busy: false });
    }
  };
  return html`<${Dialog} title=${title} close=${close}>
    <form ref=${form} onSubmit=${submit}>
      ${children && html`<p class="quiet">${children}</p>`}
      <label
        >Reason<input name="reason" required maxlength="256" autofocus defaultValue=${said.reason}
      /></label>
      <label>Ticket<input name="ticket" required maxlength="128" defaultValue=${said.ticket} /></label>
      <${ErrorNote} error=${error} />
      <div class="actions">
        <button type="button" onClick=${close}>Keep as it is</button>
        <button class=${danger ? "danger" : "primary"} disabled=${busy}>${label}</button>
      </div>
    </form>
  <//>`;
}
