// One run as it goes: its nodes from the API, and then every event of its stream.
//
// I1  The stream is open before the nodes are read; events that come meanwhile are applied after, so
//     nothing lies between. An event that the answer knew already changes nothing for long: those
//     after it follow.
// I2  After a cut the stream goes on behind the last seq. Where it cannot (nothing was taken yet, or a
//     `gap`), run and nodes are read again.
// I3  Whoever draws is called once a frame, never once an event.

import { call, read } from "../api.js";
import { attention } from "../attention.js";
import { RunGraph } from "../graph/run_graph.js";
import { useEffect, useRef, useState } from "../preact.js";
import { session } from "../session.js";
import { readEvents } from "../sse.js";
import { useStore } from "../store.js";

const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 10_000;
const SILENCE_MS = 40_000;
const REREAD_MS = 250;
const HIDDEN_FLUSH_MS = 1_000;
const ENDED = new Set(["completed", "failed", "cancelled"]);

export const hasEnded = (run) => ENDED.has(run.state);

/** A run that is followed from `follow` to `leave`, as often as wanted, until it has ended, or until `end`. */
export class LiveRun {
  /**
   * @param {string} runId
   * @param {(shown: object) => void} show is given `{run, graph, signal, link, error, version}`; the
   *   graph is the same object until nodes are added, and `version` grows with each change of it
   */
  constructor(runId, show) {
    this.path = `/runs/${encodeURIComponent(runId)}`;
    this.shown = { run: null, graph: null, signal: null, link: "connecting", error: null, version: 0 };
    this.show = show;
    this.listeners = new Set();
    this.pending = [];
    this.lastSeq = null;
    this.skewMs = 0;
    this.due = false;
    this.rereading = 0;
    this.reads = 0;
    this.replay = null;
    this.ending = new AbortController();
    this.following = new AbortController();
  }

  /** Open the stream, behind what was taken before. */
  follow() {
    if (this.shown.link === "ended") return;
    this.following = new AbortController();
    this.#change({ link: "connecting" });
    this.#follow(this.following.signal);
  }

  /** Close the stream; what is shown stays. */
  leave() {
    this.following.abort();
  }

  /** Called with the events of each frame, in order. */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Now, by the engine's clock as far as its events have shown it. */
  nowMs = () => Date.now() + this.skewMs;

  end() {
    this.leave();
    this.ending.abort();
    clearTimeout(this.rereading);
  }

  #change(fields) {
    if (this.ending.signal.aborted) return;
    this.shown = { ...this.shown, ...fields };
    this.show(this.shown);
  }

  async #follow(signal) {
    let waitMs = WAIT_MIN_MS;
    while (!signal.aborted) {
      try {
        await this.#followOnce(signal, () => { waitMs = WAIT_MIN_MS; });
      } catch (error) {
        if (signal.aborted) return;
        if (error.isFinal) return this.#change({ error, link: "ended" });
      }
      if (signal.aborted) return;
      this.#change({ link: "reconnecting" });
      await new Promise((wake) => { setTimeout(wake, waitMs * (0.75 + Math.random() / 2)); });
      waitMs = Math.min(WAIT_MAX_MS, 2 * waitMs);
    }
  }

  async #followOnce(signal, live) {
    const cut = new AbortController();
    const stop = () => cut.abort();
    signal.addEventListener("abort", stop, { once: true });
    let heardAt = performance.now();
    const watch = setInterval(() => { if (performance.now() - heardAt > SILENCE_MS) stop(); }, 5_000);
    try {
      const headers = this.lastSeq === null ? {} : { "Last-Event-ID": String(this.lastSeq) };
      const response = await call(`/stream${this.path}?logs=false`, { headers, signal: cut.signal });
      if (this.lastSeq === null) this.#read();
      live();
      this.#change({ link: "live" });
      await readEvents(response, (message) => this.#take(message), () => { heardAt = performance.now(); });
    } catch (error) {
      if (!cut.signal.aborted) throw error;
    } finally {
      clearInterval(watch);
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  /** Run and nodes, as they are now. What comes while they are read is applied to them too. */
  async #read() {
    const { signal } = this.ending;
    this.reads += 1;
    const [round, replay] = [this.reads, []];
    this.replay = replay;
    try {
      const [run, dag, first] = await Promise.all([
        read(this.path, { signal }), read(`${this.path}/dag`, { signal }), read(`${this.path}/first-signal`, { signal }),
      ]);
      if (round !== this.reads) return;
      const graph = new RunGraph(dag);
      for (const event of replay) graph.apply(event);
      this.replay = null;
      this.#change({ run, graph, signal: first?.firstSignal ?? null, error: null, version: this.shown.version + 1 });
      this.#soon();
      if (!hasEnded(run)) return;
      this.leave();
      this.#change({ link: "ended" });
    } catch (error) {
      if (signal.aborted) return;
      if (error.isFinal) this.#change({ error });
      else this.reread();
    }
  }

  /** Read again soon: after an act, and after an event that changes more than a node. */
  reread = () => {
    clearTimeout(this.rereading);
    this.rereading = setTimeout(() => this.#read(), REREAD_MS);
  };

  #take({ id, name, data }) {
    const body = JSON.parse(data);
    if (name === "first_signal") this.#change({ signal: body.firstSignal });
    if (id !== null) this.lastSeq = Number(id);
    if (name === "gap") return this.reread();
    if (id === null) return;
    this.skewMs = Math.max(this.skewMs || -Infinity, Date.parse(body.occurredAt) - Date.now());
    this.pending.push(body);
    this.#soon();
  }

  #soon() {
    if (this.due) return;
    this.due = true;
    if (document.hidden) setTimeout(() => this.#flush(), HIDDEN_FLUSH_MS);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.due = false;
    const { graph } = this.shown;
    if (!graph || this.ending.signal.aborted) return;
    const events = this.pending.splice(0);
    this.replay?.push(...events);
    for (const event of events) graph.apply(event);
    if (events.some(({ eventType }) => eventType.startsWith("run.") && eventType !== "run.node_opened")) this.reread();
    for (const listener of [...this.listeners]) listener(events);
    this.#change({ version: this.shown.version + 1 });
  }
}

/** The run at a page, followed while it is looked at: what `LiveRun` shows, and the run itself for whoever listens. */
export function useRun(runId) {
  const generation = useStore(session, (value) => value.generation);
  const watched = useStore(attention);
  const [shown, setShown] = useState(null);
  const live = useRef(null);
  useEffect(() => {
    if (!session.get().token) return undefined;
    live.current = new LiveRun(runId, setShown);
    setShown(live.current.shown);
    return () => live.current.end();
  }, [runId, generation]);
  useEffect(() => {
    if (!watched || !session.get().token) return undefined;
    const followed = live.current;
    followed.follow();
    return () => followed.leave();
  }, [runId, generation, watched]);
  return { live: live.current, ...shown };
}
