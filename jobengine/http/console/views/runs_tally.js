// How many nodes of runs are in which state, while the runs go on.
//
// I1  The nodes of a run are read once, and again when it has grown or events were missed; in between
//     the tenant's events are counted. At most READS_MAX runs are read at a time.
// I2  What asks for a run while it is read has it read once more. That, and another try where reading
//     has failed, wait for AGAIN_MS.

import { read } from "../api.js";
import { listen } from "../feed.js";
import { useEffect, useRef, useState } from "../preact.js";

const READS_MAX = 2;
const AGAIN_MS = 1_000;

class Tallies {
  constructor(changed) {
    this.changed = changed;
    this.wanted = new Set();
    this.states = new Map();
    this.waiting = new Set();
    this.missed = new Map();
    this.ending = new AbortController();
    this.leave = listen((entries) => this.#take(entries));
  }

  end() {
    this.leave();
    this.ending.abort();
  }

  /** Count these runs, and no others. */
  want(runIds) {
    this.wanted = new Set(runIds);
    for (const known of [...this.states.keys()]) if (!this.wanted.has(known)) this.states.delete(known);
    for (const runId of runIds) {
      if (!this.states.has(runId) && !this.missed.has(runId)) this.#ask(runId);
    }
  }

  /** By run, how many of its nodes are in each state. */
  counts() {
    const found = new Map();
    for (const [runId, states] of this.states) {
      const counts = {};
      for (const state of states.values()) counts[state] = (counts[state] ?? 0) + 1;
      found.set(runId, counts);
    }
    return found;
  }

  #ask(runId) {
    if (!this.wanted.has(runId)) return;
    this.waiting.add(runId);
    this.#next();
  }

  #next() {
    if (this.missed.size >= READS_MAX || this.ending.signal.aborted) return;
    const runId = [...this.waiting].find((one) => !this.missed.has(one));
    if (runId === undefined) return;
    this.waiting.delete(runId);
    if (this.wanted.has(runId)) this.#read(runId);
    else this.#next();
  }

  async #read(runId) {
    const missed = [];
    this.missed.set(runId, missed);
    try {
      const dag = await read(`/runs/${runId}/dag`, { signal: this.ending.signal });
      const states = new Map(dag.nodes.map((node) => [node.jobId, node.state]));
      for (const { id, status } of missed) if (states.has(id)) states.set(id, status);
      if (this.wanted.has(runId)) this.states.set(runId, states);
      this.changed();
    } catch {
      this.waiting.add(runId);
    }
    if (this.ending.signal.aborted) return;
    if (this.waiting.has(runId)) await new Promise((wake) => { setTimeout(wake, AGAIN_MS); });
    this.missed.delete(runId);
    this.#next();
  }

  #take(entries) {
    let moved = false;
    for (const { kind, eventType, job, data } of entries) {
      if (kind !== "event") for (const runId of this.wanted) this.#ask(runId);
      else if (eventType === "run.grown") this.#ask(data.runId);
      else if (job?.status && job.runId) {
        this.missed.get(job.runId)?.push(job);
        const states = this.states.get(job.runId);
        if (!states?.has(job.id)) continue;
        states.set(job.id, job.status);
        moved = true;
      }
    }
    if (moved) this.changed();
  }
}

/** Of the runs, by id, how many of their nodes are in each state; those that are not counted yet lack. */
export function useTallies(runs) {
  const [, draw] = useState(0);
  const tallies = useRef(null);
  const runIds = runs.map((run) => run.runId);
  useEffect(() => {
    tallies.current = new Tallies(() => draw((count) => count + 1));
    return () => tallies.current.end();
  }, []);
  useEffect(() => tallies.current.want(runIds), [runIds.join()]);
  return tallies.current?.counts() ?? new Map();
}
