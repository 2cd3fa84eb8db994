// What attempts have left behind. Bytes that the engine keeps are fetched with the token, so a link
// alone would not do.

import { html, useState } from "./preact.js";
import { BASE, call, useRead } from "./api.js";
import { bytes } from "./format.js";
import { Empty, ErrorNote } from "./parts.js";

export function Artifacts({ root, round }) {
  const { data, error } = useRead(`${root}/artifacts?pageSize=500`, { round });
  const [failed, setFailed] = useState(null);
  if (!data) return html`<${ErrorNote} error=${error} />`;
  const download = async (artifact) => {
    setFailed(null);
    try {
      await save(artifact);
    } catch (wrong) {
      setFailed(wrong);
    }
  };
  return html`<section class="card" aria-label="Artifacts">
    <header><h2>Artifacts</h2></header>
    <${ErrorNote} error=${failed} />
    ${!data.items.length && html`<${Empty}>None so far.<//>`}
    <ul class="artifacts">
      ${data.items.map(
        (artifact) => html`<li key=${`${artifact.attempt} ${artifact.at} ${artifact.name}`}>
          <div>
            <p>${artifact.name || artifact.uri || artifact.digest}</p>
            <p class="quiet">${artifact.mime} · ${bytes(artifact.sizeBytes)} · attempt ${artifact.attempt}</p>
            ${!isKept(artifact) && html`<p class="id">${artifact.uri ?? artifact.digest}</p>`}
          </div>
          ${isKept(artifact) &&
          html`<button type="button" onClick=${() => download(artifact)}>Download</button>`}
        </li>`,
      )}
    </ul>
  </section>`;
}

// Where the engine has the bytes itself; other addresses are the worker's word, and shown as such.
const isKept = ({ digest, uri }) => Boolean(digest) && (!uri || uri.startsWith(`${BASE}/artifacts/`));

async function save({ digest, name }) {
  const response = await call(`/artifacts/${digest}`);
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name.split("/").at(-1) || digest;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
