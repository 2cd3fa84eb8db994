// A run's nodes and edges as the page has them, kept up to date by the run's events.
//
// I1  What an event says is taken over as it is; events come in order, and a repeat changes nothing.
// I2  The shape (nodes, edges, levels) is that of the answer it was made of; `run.grown` asks for anew.

const ENDED = new Set(["completed", "failed", "cancelled"]);

export class RunGraph {
  /** @param {object} dag the answer of `GET /runs/{runId}/dag` */
  constructor(dag) {
    this.runId = dag.runId;
    this.nodes = dag.nodes;
    this.levels = dag.levels;
    this.criticalMs = dag.criticalMs;
    this.criticalPath = dag.criticalPath;
    this.byKey = new Map(dag.nodes.map((node, at) => [node.key, at]));
    this.byJob = new Map(dag.nodes.map((node, at) => [node.jobId, at]));
    this.edges = Int32Array.from(dag.edges.flatMap(([from, to]) => [this.byKey.get(from), this.byKey.get(to)]));
    this.parents = dag.nodes.map(() => []);
    this.children = dag.nodes.map(() => []);
    for (let at = 0; at < this.edges.length; at += 2) {
      this.children[this.edges[at]].push(this.edges[at + 1]);
      this.parents[this.edges[at + 1]].push(this.edges[at]);
    }
    this.criticalEdges = this.#criticalEdges();
  }

  /** The number of each edge between neighbours on the critical path. */
  #criticalEdges() {
    const next = new Map(this.criticalPath.slice(1).map((key, at) => [this.byKey.get(this.criticalPath[at]), this.byKey.get(key)]));
    const found = new Set();
    for (let edge = 0; edge < this.edges.length / 2; edge += 1) {
      const target = next.get(this.edges[2 * edge]);
      if (target !== undefined && target === this.edges[2 * edge + 1]) found.add(edge);
    }
    return found;
  }

  get levelsOfNodes() {
    return Int32Array.from(this.nodes, (node) => node.level);
  }

  /**
   * @param {object} event an envelope `orch.event.v1`
   * @returns {number} the node that it has changed, or -1
   */
  apply(event) {
    const at = this.byJob.get(event.job?.id) ?? -1;
    if (at < 0) return -1;
    const node = this.nodes[at];
    if (event.eventType === "run.node_opened") node.open = true;
    if (event.job.attempt) node.attempt = event.job.attempt;
    if (event.job.status) this.#enter(node, event);
    return at;
  }

  #enter(node, { job, occurredAt, metrics, eventType }) {
    node.state = job.status;
    node.reason = job.reason;
    if (job.status === "running") {
      Object.assign(node, { startedAt: occurredAt, finishedAt: undefined, runMs: undefined, error: undefined });
      node.queueMs = millis(metrics?.queueSeconds) ?? node.queueMs;
    }
    if (job.status === "scheduled") Object.assign(node, { startedAt: undefined, finishedAt: undefined });
    if (eventType === "job.retried") node.error = job.error?.class;
    if (!ENDED.has(job.status)) return;
    node.open = false;
    node.finishedAt = occurredAt;
    if (node.startedAt) node.runMs = Date.parse(occurredAt) - Date.parse(node.startedAt);
    node.error = job.status === "failed" ? job.error?.class ?? node.error : undefined;
  }

  /** How many nodes are in each state. */
  counts() {
    const counts = {};
    for (const { state } of this.nodes) counts[state] = (counts[state] ?? 0) + 1;
    return counts;
  }
}

function millis(seconds) {
  return seconds === undefined ? undefined : Math.round(seconds * 1000);
}
