// The tenant's events, live: one stream for the whole console, whichever page is open.
//
// I1  `lastSeq` is the seq up to which everything was taken. After any cut the stream goes on behind
//     it, so nothing is missed and nothing comes twice.
// I2  What is left out is said: a `gap` of the engine (past retention) and a `skipped` of this page
//     (it fell so far behind that it went on from now) are rows among the events.
// I3  Listeners are called once a frame with all that came, never once an event.

import { call, read, UnreachableError } from "./api.js";
import { attention } from "./attention.js";
import { useEffect } from "./preact.js";
import { refuse, session } from "./session.js";
import { readEvents } from "./sse.js";
import { createStore } from "./store.js";

const BEHIND_MAX = 5_000;
const BEHIND_CHECK_MS = 5_000;
const SILENCE_MS = 40_000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 10_000;
const KEPT = 500;
const HIDDEN_FLUSH_MS = 1_000;

const IDLE = { state: "idle", lastSeq: null, taken: 0, message: "" };
export const feed = createStore(IDLE);

const listeners = new Set();
let recent = [];
let pending = [];
let flushDue = false;
let lastSeq = null;
let taken = 0;
let unbroken = false;

// Called with lists of events in order; entries of `kind` "gap" or "skipped" have `from` and `to`.
// A `resync` entry says that something may have happened unseen: read again what is shown.
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useFeed(listener, dependencies) {
  useEffect(() => listen(listener), dependencies);
}

// The last entries, newest first, at most so many as are kept.
export const recentEntries = () => recent;

function take(entry) {
  pending.push(entry);
  if (flushDue) return;
  flushDue = true;
  if (document.hidden) setTimeout(flush, HIDDEN_FLUSH_MS);
  else requestAnimationFrame(flush);
}

function flush() {
  flushDue = false;
  const entries = pending;
  pending = [];
  const shown = entries.filter((entry) => entry.kind !== "resync");
  recent = [...shown.slice(-KEPT).reverse(), ...recent].slice(0, KEPT);
  for (const listener of [...listeners]) listener(entries);
  feed.change({ lastSeq, taken });
}

function takeMessage({ id, name, data }) {
  const body = JSON.parse(data);
  if (name === "end") {
    if (body.code === "TOKEN_INVALID") refuse(session.get().token, body.message);
    return;
  }
  if (name === "gap") {
    take({ kind: "gap", from: body.from, to: body.to });
    take({ kind: "resync" });
    lastSeq = Math.max(lastSeq ?? 0, body.to);
    return;
  }
  if (id === null) return;
  lastSeq = Number(id);
  taken += 1;
  take({ kind: "event", ...body });
}

// The tenant's newest seq, or null where the engine does not say.
async function newestSeq(signal) {
  try {
    return (await read("/activity?seconds=1", { signal })).newestSeq ?? null;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

// Go on from now where this page cannot catch up. Whether it did.
async function skipWhenBehind(signal) {
  const before = lastSeq;
  const newest = await newestSeq(signal);
  if (newest === null) return false;
  const behind = newest - (lastSeq ?? newest);
  if (behind > BEHIND_MAX) take({ kind: "skipped", from: lastSeq + 1, to: newest });
  else if (before !== null && !isAnotherLedger(newest, before)) return false;
  lastSeq = newest;
  unbroken = false;
  return true;
}

// A ledger that ends before what was read of it is another one, behind the same address.
const isAnotherLedger = (newest, before) => newest < before;

async function followOnce(signal) {
  await skipWhenBehind(signal);
  const cut = new AbortController();
  const stop = () => cut.abort();
  signal.addEventListener("abort", stop);
  let heardAt = performance.now();
  const watch = setInterval(async () => {
    const silent = performance.now() - heardAt > SILENCE_MS;
    const skipped = !silent && !document.hidden && (await skipWhenBehind(signal).catch(() => false));
    if (silent || skipped) cut.abort();
  }, BEHIND_CHECK_MS);
  try {
    const headers = lastSeq === null ? {} : { "Last-Event-ID": String(lastSeq) };
    const response = await call("/stream/events", { headers, signal: cut.signal });
    feed.change({ state: "live", message: "", lastSeq });
    if (!unbroken) take({ kind: "resync" });
    unbroken = true;
    await readEvents(response, takeMessage, () => (heardAt = performance.now()));
  } catch (error) {
    if (!cut.signal.aborted || signal.aborted) throw error;
  } finally {
    clearInterval(watch);
    signal.removeEventListener("abort", stop);
    cut.abort();
  }
}

async function follow(signal) {
  let waitMs = WAIT_MIN_MS;
  while (!signal.aborted) {
    const beganAt = performance.now();
    let message = "The stream ended.";
    try {
      await followOnce(signal);
    } catch (error) {
      if (signal.aborted || !session.get().token) break;
      message = error.message;
      if (!(error instanceof UnreachableError) && error.status === 403) {
        feed.change({ state: "refused", message });
        return;
      }
    }
    if (signal.aborted || !session.get().token) break;
    if (performance.now() - beganAt > WAIT_MAX_MS) waitMs = WAIT_MIN_MS;
    feed.change({ state: "reconnecting", message });
    await pause(waitMs * (0.75 + Math.random() / 2), signal);
    waitMs = Math.min(WAIT_MAX_MS, waitMs * 2);
  }
}

function pause(ms, signal) {
  return new Promise((wake) => {
    const timer = setTimeout(wake, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      wake();
    });
    addEventListener("online", wake, { once: true });
  });
}

// Follow for as long as there is a token. Another tenant's events begin from now, and so do those of
// whoever comes after a sign-out.
export function startFeed() {
  let running = null;
  let tenant = null;
  const begin = () => {
    const { token, tenant: wanted, refusal } = session.get();
    running?.abort();
    running = null;
    if (!token || !attention.get()) {
      if (!token && !refusal) tenant = null;
      feed.change({ state: "idle" });
      return;
    }
    if (wanted !== tenant) {
      tenant = wanted;
      [recent, lastSeq, taken, unbroken] = [[], null, 0, false];
      feed.set(IDLE);
    }
    running = new AbortController();
    feed.change({ state: "connecting", message: "" });
    follow(running.signal);
  };
  session.watch(begin);
  attention.watch(begin);
  begin();
}
