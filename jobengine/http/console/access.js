// Asking who is there: a page at first, a dialog over the page when a token ends.

import { html, useRef } from "./preact.js";
import { Dialog } from "./parts.js";
import { connect, session } from "./session.js";
import { useStore } from "./store.js";

function AccessForm({ message }) {
  const form = useRef(null);
  const { tenant, project } = session.get();
  const submit = (event) => {
    event.preventDefault();
    connect(Object.fromEntries(new FormData(form.current)));
  };
  return html`<form ref=${form} class="access" autocomplete="off" onSubmit=${submit}>
    ${message && html`<p class="note" data-kind="error" role="alert">${message}</p>`}
    <label>Tenant<input name="tenant" defaultValue=${tenant || "demo"} required /></label>
    <label>Project <span class="quiet">optional</span><input name="project" defaultValue=${project} /></label>
    <label>Token<input name="token" type="password" required autofocus /></label>
    <p class="quiet">
      <code>jobengine up</code> prints an address with a token; <code>jobengine token issue</code> makes
      one. It is kept in this tab and goes to this engine only.
    </p>
    <button class="primary">Connect</button>
  </form>`;
}

// Before anybody has been let in: nothing else is shown.
export function Welcome() {
  const refusal = useStore(session, (value) => value.refusal);
  return html`<main id="main" class="welcome">
    <h1>jobengine</h1>
    <${AccessForm} message=${refusal} />
  </main>`;
}

// The token counts no more; what was being looked at stays behind the question.
export function AskAgain() {
  const refusal = useStore(session, (value) => value.refusal);
  return html`<${Dialog} title="Sign in again" closable=${false}>
    <${AccessForm} message=${refusal} />
  <//>`;
}
