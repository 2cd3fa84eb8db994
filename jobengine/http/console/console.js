// A tenant's jobs and events, live. Reads the public API with the token given in the form, or in
// the address after `#token=…&tenant=…`, which never leaves the browser.
"use strict";

const BASE = "/api/v1/jobengine";
const JOBS_SHOWN = 25;
const EVENTS_SHOWN = 200;
const RECONNECT_MS = 1000;
const REFRESH_MS = 500;

const $ = (id) => document.getElementById(id);
let access = null;
let lastSeq = null;
let refreshDue = null;

function say(text) { $("link").textContent = text; }

function call(path, options = {}) {
  const headers = { Authorization: `Bearer ${access.token}`, "X-Stella-Tenant": access.tenant };
  return fetch(BASE + path, { ...options, headers: { ...headers, ...options.headers } });
}

async function read(path) {
  const answer = await call(path);
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error.message), { refused: answer.status < 500 });
  return body;
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function row(job) {
  const made = document.createElement("tr");
  const since = job.finishedAt ?? job.startedAt ?? job.scheduledAt ?? job.createdAt;
  made.append(
    element("td", job.jobId),
    element("td", job.jobType),
    element("td", job.reason ? `${job.state} (${job.reason})` : job.state, { "data-state": job.state }),
    element("td", job.attempt),
    element("td", new Date(since).toLocaleTimeString()),
  );
  return made;
}

async function refresh() {
  const [counts, jobs] = await Promise.all([read("/jobs/summary"), read(`/jobs?pageSize=${JOBS_SHOWN}`)]);
  $("counts").replaceChildren(...Object.entries(counts.counts ?? counts).map(([state, count]) => {
    const box = document.createElement("div");
    box.append(element("dt", state), element("dd", count));
    return box;
  }));
  $("jobs").replaceChildren(...jobs.items.map(row));
}

function refreshSoon() {
  refreshDue ??= setTimeout(() => {
    refreshDue = null;
    refresh().catch((error) => say(error.message));
  }, REFRESH_MS);
}

function show(event) {
  const line = document.createElement("li");
  const at = new Date(event.occurredAt);
  line.append(element("time", at.toLocaleTimeString(), { datetime: event.occurredAt }));
  const job = event.job;
  line.append(`#${event.seq} ${event.eventType} ${job ? `${job.type} ${job.id}` : ""}`);
  if (job?.status) line.dataset.state = job.status;
  $("events").prepend(line);
  while ($("events").childElementCount > EVENTS_SHOWN) $("events").lastElementChild.remove();
}

function take(block) {
  const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
  if (!data.length) return;
  const event = JSON.parse(data.join("\n"));
  lastSeq = event.seq;
  show(event);
  refreshSoon();
}

async function follow() {
  const headers = lastSeq === null ? {} : { "Last-Event-ID": String(lastSeq) };
  const answer = await call("/stream/events", { headers });
  if (!answer.ok) {
    const body = await answer.json();
    throw Object.assign(new Error(body.error.message), { refused: answer.status < 500 });
  }
  say("live");
  refreshSoon();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    blocks.forEach(take);
  }
}

async function run() {
  document.querySelector("main").hidden = false;
  for (;;) {
    try {
      await follow();
      say("reconnecting …");
    } catch (error) {
      say(error.refused ? error.message : "reconnecting …");
      if (error.refused) return;
    }
    await new Promise((wake) => setTimeout(wake, RECONNECT_MS));
  }
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  const first = access === null;
  access = { tenant: $("tenant").value.trim(), token: $("token").value.trim() };
  if (first) {
    run();
  } else {
    location.hash = new URLSearchParams(access);
    location.reload();
  }
});

const given = new URLSearchParams(location.hash.slice(1));
if (given.has("token")) {
  $("tenant").value = given.get("tenant") ?? "demo";
  $("token").value = given.get("token");
  history.replaceState(null, "", location.pathname);
  $("access").requestSubmit();
}
