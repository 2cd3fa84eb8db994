// How many nodes of runs are in which state, while the runs go on.
//
// I1  The nodes of a run are read once, and again when it has grown or events were missed; in between
//     the tenant's events are counted. At most READS_MAX runs are read at a time.

import { read } from "../api.js";
import { listen } from "../feed.js";
import { useEffect, useRef, useState } from "../preact.js";

const READS_MAX = 2;

class Tallies {
  constructor(changed) {
    this.changed = changed;
    this.states = new Map();
    this.missed = new Map();
    this.waiting = [];
    this.reading = 0;
    this.ending = new AbortController();
    this.leave = listen((entries) => this.#take(entries));
  }

  end() {
    this.leave();
    this.ending.abort();
  }

  /** Count these runs, and no others. */
  want(runIds) {
    for (const known of [...this.states.keys()]) if (!runIds.includes(known)) this.states.delete(known);
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
    this.missed.set(runId, []);
    this.waiting.push(runId);
    this.#next();
  }

  async #next() {
    if (this.reading >= READS_MAX || !this.waiting.length) return;
    this.reading += 1;
    const runId = this.waiting.shift();
    try {
      const dag = await read(`/runs/${runId}/dag`, { signal: this.ending.signal });
      const states = new Map(dag.nodes.map((node) => [node.jobId, node.state]));
      for (const { id, status } of this.missed.get(runId)) if (states.has(id)) states.set(id, status);
      this.states.set(runId, states);
      this.changed();
    } catch (error) {
      if (this.ending.signal.aborted) return;
    } finally {
      this.missed.delete(runId);
      this.reading -= 1;
    }
    this.#next();
  }

  #take(entries) {
    let moved = false;
    for (const { kind, eventType, job, data } of entries) {
      if (kind !== "event") this.#again([...this.states.keys()]);
      else if (eventType === "run.grown") this.#again([data.runId]);
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

  #again(runIds) {
    for (const runId of runIds) {
      if (this.states.has(runId) && !this.missed.has(runId)) this.#ask(runId);
    }
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
