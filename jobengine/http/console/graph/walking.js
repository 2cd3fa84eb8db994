// Where an arrow key leads from a node: left and right along an edge, up and down within a level.

/**
 * @param {import("./scene.js").Scene} scene
 * @param {number} from a node, or -1 where none is chosen yet
 * @returns {number} a node, or -1 where the key leads nowhere
 */
export function nextNode({ graph, layout }, from, key) {
  const last = graph.nodes.length - 1;
  if (key === "Home" || (from < 0 && key.startsWith("Arrow"))) return Math.min(0, last);
  if (key === "End") return last;
  if (from < 0) return -1;
  if (key === "ArrowRight") return nearest(layout, from, graph.children[from]);
  if (key === "ArrowLeft") return nearest(layout, from, graph.parents[from]);
  if (key !== "ArrowUp" && key !== "ArrowDown") return -1;
  const way = key === "ArrowDown" ? 1 : -1;
  const level = graph.nodes[from].level;
  const place = (at) => layout.y[at] * 1e6 + layout.x[at];
  let found = -1;
  graph.nodes.forEach((node, at) => {
    if (node.level !== level || (place(at) - place(from)) * way <= 0) return;
    if (found < 0 || (place(at) - place(found)) * way < 0) found = at;
  });
  return found;
}

function nearest({ y }, from, nodes) {
  return nodes.reduce((best, at) => (best < 0 || Math.abs(y[at] - y[from]) < Math.abs(y[best] - y[from]) ? at : best), -1);
}
