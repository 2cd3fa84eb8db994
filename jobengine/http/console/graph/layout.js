// A layered drawing of a run's graph, from left to right.
//
// Not here: painting (`scene`), the thread that this runs in (`layout_worker`).

import { orderOf } from "./ordering.js";
import { NODE_WIDTH, placementOf } from "./placement.js";

/**
 * @typedef {object} Layout
 * @property {Float32Array} x left of each node
 * @property {Float32Array} y middle of each node
 * @property {Int32Array} offsets where the points of each edge begin, and where the last ones end
 * @property {Float32Array} points x, y of the bends of all edges; between an odd one and the next an
 *   edge is a curve, between an even one and the next a level line
 * @property {number} width
 * @property {number} height
 * @property {number} crossings
 */

/**
 * @param {Int32Array} levels of each node
 * @param {Int32Array} edges pairs of nodes, each from a lower level to a higher one
 * @returns {Layout}
 */
export function layoutOf(levels, edges) {
  const count = levels.length;
  const graph = orderOf(levels, edges);
  const place = placementOf(graph, count);
  const offsets = new Int32Array(edges.length / 2 + 1);
  const points = [];
  for (let edge = 0; edge < edges.length / 2; edge += 1) {
    const [source, target] = [edges[2 * edge], edges[2 * edge + 1]];
    const between = graph.carried[edge] ? levels[target] - levels[source] - 1 : 0;
    leave(points, place, levels[source], source);
    for (const vertex of (graph.carriers.get(source) ?? []).slice(0, between)) {
      const level = graph.levels[vertex];
      points.push(place.starts[level], place.y[vertex], place.ends[level], place.y[vertex]);
    }
    arrive(points, place, levels[target], target);
    offsets[edge + 1] = points.length;
  }
  return {
    x: place.x.slice(0, count),
    y: place.y.slice(0, count),
    offsets,
    points: Float32Array.from(points),
    width: place.width,
    height: place.height,
    crossings: graph.crossings,
  };
}

/** From a node to the right edge of its level: behind the nodes that stand beside it, if any do. */
function leave(points, { x, y, ends }, level, node) {
  const right = x[node] + NODE_WIDTH;
  points.push(right, y[node]);
  if (ends[level] > right) points.push(right, y[node], ends[level], y[node]);
}

function arrive(points, { x, y, starts }, level, node) {
  if (starts[level] < x[node]) points.push(starts[level], y[node]);
  points.push(x[node], y[node]);
}

/**
 * The layout, made in a thread of its own so that the page stays live.
 *
 * @param {Int32Array} levels
 * @param {Int32Array} edges
 * @param {AbortSignal} [signal] ends the thread; the promise is never settled then
 * @returns {Promise<Layout>}
 */
export function layoutAside(levels, edges, signal) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./layout_worker.js", import.meta.url), { type: "module" });
    const end = () => worker.terminate();
    signal?.addEventListener("abort", end, { once: true });
    worker.onmessage = ({ data }) => { end(); resolve(data); };
    worker.onerror = (event) => { end(); reject(new Error(event.message || "the layout failed")); };
    worker.postMessage({ levels, edges });
  });
}
