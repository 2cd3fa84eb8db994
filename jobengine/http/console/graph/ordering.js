// Which node stands where on its level, so that few edges cross.
//
// Sugiyama's second step (Sugiyama, Tagawa, Toda 1981): edges that span several levels are carried
// by one vertex a level in between, levels are swept up and down by barycentres, and the order with
// the fewest crossings stays. Edges that leave the same node share what carries them.
//
// I1  An order depends on the graph alone: the same graph gives the same drawing.
// I2  At most CARRIERS_MAX vertices carry edges; what is beyond goes straight (`carried` is false).
//
// Levels come from the API: an edge goes from a lower level to a higher one.

const CARRIERS_MAX = 40_000;
const SWEEPS_MAX = 24;
const SWEEPS_WITHOUT_GAIN_MAX = 4;
const LINKS_SWEPT_MAX = 600_000;

/**
 * @param {Int32Array} levels of each node
 * @param {Int32Array} edges pairs of nodes
 * @returns {{levels: number[], carriers: Map<number, number[]>, carried: Uint8Array,
 *   down: number[][], up: number[][], order: number[][], crossings: number}}
 *   Vertices are the nodes, then what carries edges. `carriers` has, by source, the vertices on the
 *   levels right of it; `order` has the vertices of each level from top to bottom.
 */
export function orderOf(levels, edges) {
  const graph = withCarriers(levels, edges);
  const order = firstOrder(graph, levels.length);
  const links = graph.down.reduce((sum, each) => sum + each.length, 0);
  const sweeps = Math.max(2, Math.min(SWEEPS_MAX, Math.floor(LINKS_SWEPT_MAX / (links + 1))));
  return { ...graph, ...bestOf(graph, order, sweeps) };
}

function withCarriers(levels, edges) {
  const all = Array.from(levels);
  const down = all.map(() => []);
  const reach = reachOf(levels, edges);
  const carriers = new Map();
  const sources = [...reach.keys()].sort((a, b) => reach.get(a) - levels[a] - (reach.get(b) - levels[b]) || a - b);
  for (const source of sources) {
    const count = reach.get(source) - levels[source] - 1;
    if (all.length - levels.length + count > CARRIERS_MAX) break;
    const chain = [];
    for (let place = 1; place <= count; place += 1) {
      const vertex = all.push(levels[source] + place) - 1;
      down.push([]);
      down[place === 1 ? source : vertex - 1].push(vertex);
      chain.push(vertex);
    }
    carriers.set(source, chain);
  }
  const carried = new Uint8Array(edges.length / 2).fill(1);
  for (let edge = 0; edge < carried.length; edge += 1) {
    const source = edges[2 * edge], target = edges[2 * edge + 1];
    const span = levels[target] - levels[source];
    if (span === 1) down[source].push(target);
    else if (carriers.has(source)) down[carriers.get(source)[span - 2]].push(target);
    else carried[edge] = 0;
  }
  const up = all.map(() => []);
  down.forEach((targets, source) => targets.forEach((target) => up[target].push(source)));
  return { levels: all, carriers, carried, down, up };
}

/** Of each source with edges over several levels, the highest level that one goes to. */
function reachOf(levels, edges) {
  const reach = new Map();
  for (let at = 0; at < edges.length; at += 2) {
    const [source, level] = [edges[at], levels[edges[at + 1]]];
    if (level > levels[source] + 1) reach.set(source, Math.max(level, reach.get(source) ?? 0));
  }
  return reach;
}

/** Each level in the order in which a walk into depth comes by, so that what belongs together is close. */
function firstOrder({ levels, down, up }, nodes) {
  const order = Array.from({ length: levels.reduce((most, level) => Math.max(most, level), -1) + 1 }, () => []);
  const seen = new Uint8Array(levels.length);
  for (let root = 0; root < nodes; root += 1) {
    if (up[root].length) continue;
    const stack = [root];
    while (stack.length) {
      const vertex = stack.pop();
      if (seen[vertex]) continue;
      seen[vertex] = 1;
      order[levels[vertex]].push(vertex);
      for (let at = down[vertex].length - 1; at >= 0; at -= 1) stack.push(down[vertex][at]);
    }
  }
  return order;
}

function bestOf(graph, order, sweeps) {
  const places = new Int32Array(graph.levels.length);
  order.forEach((level) => level.forEach((vertex, place) => { places[vertex] = place; }));
  let best = { order: order.map((level) => level.slice()), crossings: crossingsOf(graph, order, places) };
  let idle = 0;
  for (let sweep = 0; sweep < sweeps && best.crossings && idle < SWEEPS_WITHOUT_GAIN_MAX; sweep += 1) {
    sweepOnce(graph, order, places, sweep);
    const crossings = crossingsOf(graph, order, places);
    idle += 1;
    if (crossings < best.crossings) {
      best = { order: order.map((level) => level.slice()), crossings };
      idle = 0;
    }
  }
  return best;
}

/** Even sweeps go down the levels, odd ones up; equal vertices change places in every other pair. */
function sweepOnce({ up, down }, order, places, sweep) {
  const forward = sweep % 2 === 0;
  const turned = sweep % 4 >= 2 ? -1 : 1;
  const neighbours = forward ? up : down;
  for (let step = 1; step < order.length; step += 1) {
    const level = order[forward ? step : order.length - 1 - step];
    const means = new Map();
    for (const vertex of level) {
      const near = neighbours[vertex];
      if (near.length) means.set(vertex, near.reduce((sum, each) => sum + places[each], 0) / near.length);
    }
    const moving = level.filter((vertex) => means.has(vertex));
    moving.sort((a, b) => means.get(a) - means.get(b) || turned * (places[a] - places[b]));
    let next = 0;
    for (let place = 0; place < level.length; place += 1) {
      if (means.has(level[place])) level[place] = moving[next++];
    }
    level.forEach((vertex, place) => { places[vertex] = place; });
  }
}

/** Inversions between neighbouring levels, counted in a Fenwick tree (Barth, Mutzel, Jünger 2004). */
function crossingsOf({ down }, order, places) {
  let crossings = 0;
  for (let level = 0; level + 1 < order.length; level += 1) {
    const size = order[level + 1].length;
    const tree = new Int32Array(size + 1);
    let seen = 0;
    for (const vertex of order[level]) {
      const targets = down[vertex].map((target) => places[target]);
      for (const place of targets) {
        let before = 0;
        for (let at = place + 1; at; at -= at & -at) before += tree[at];
        crossings += seen - before;
      }
      for (const place of targets) {
        for (let at = place + 1; at <= size; at += at & -at) tree[at] += 1;
      }
      seen += targets.length;
    }
  }
  return crossings;
}
