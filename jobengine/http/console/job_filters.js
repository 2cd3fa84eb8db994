// The filters of the job list. They are its address: what is chosen here is navigated to.

import { html, useLayoutEffect, useRef } from "./preact.js";
import { queryOf } from "./api.js";
import { STATES } from "./job_facts.js";
import { navigate } from "./router.js";

const TEXTS = [
  ["jobType", "Type", "scan"],
  ["queue", "Queue", ""],
  ["runId", "Run", ""],
  ["sourceId", "Source", ""],
  ["label", "Label", "name:value"],
];
const INSTANTS = [
  ["createdFrom", "Created from"],
  ["createdBefore", "Created before"],
];
export const FIELDS = ["state", ...TEXTS.map(([name]) => name), ...INSTANTS.map(([name]) => name)];

export function JobFilters({ filters }) {
  const form = useRef(null);
  const states = filters.state ? filters.state.split(",") : [];
  const set = FIELDS.filter((name) => filters[name]).length;

  // Fields are the browser's own: what is being typed outlives any drawing, and an address that has
  // come from elsewhere is put into them.
  useLayoutEffect(() => {
    const { elements } = form.current;
    for (const box of elements.namedItem("state")) box.checked = states.includes(box.value);
    for (const [name] of TEXTS) elements.namedItem(name).value = filters[name];
    for (const [name] of INSTANTS) elements.namedItem(name).value = toLocal(filters[name]);
  }, [filters]);

  const apply = (event) => {
    event?.preventDefault();
    const said = new FormData(form.current);
    const next = { state: said.getAll("state") };
    for (const [name] of TEXTS) next[name] = said.get(name).trim();
    for (const [name] of INSTANTS) next[name] = toInstant(said.get(name));
    if (queryOf(next) !== queryOf(filters)) navigate(`/jobs${queryOf(next)}`);
  };

  return html`<form
    ref=${form}
    class="card job-filters"
    role="search"
    aria-label="Filter jobs"
    onSubmit=${apply}
    onChange=${apply}
  >
    <fieldset>
      <legend class="visually-hidden">States</legend>
      ${STATES.map(
        (state) => html`<label key=${state} class="chip">
          <input type="checkbox" name="state" value=${state} />${state}
        </label>`,
      )}
      ${set > 0 &&
      html`<button type="button" class="plain" onClick=${() => navigate("/jobs")}>Clear filters</button>`}
    </fieldset>
    <details open=${hasTexts(filters) || matchMedia("(min-width: 761px)").matches}>
      <summary>More filters</summary>
      <div class="fields">
        ${TEXTS.map(
          ([name, label, hint]) => html`<label key=${name}
            >${label}<input name=${name} placeholder=${hint} spellcheck=${false}
          /></label>`,
        )}
        ${INSTANTS.map(
          ([name, label]) => html`<label key=${name}
            >${label}<input type="datetime-local" name=${name} step="1"
          /></label>`,
        )}
      </div>
    </details>
    <button class="visually-hidden" tabindex="-1">Apply</button>
  </form>`;
}

const hasTexts = (filters) => FIELDS.some((name) => name !== "state" && filters[name]);

// Between an instant of the API and a field that knows local time only, by seconds.
const toInstant = (local) => (local ? new Date(local).toISOString() : "");

function toLocal(instant) {
  if (!instant) return "";
  const at = new Date(instant);
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
