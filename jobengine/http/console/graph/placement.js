// Where what stands on a level is drawn: x by level, y so that edges run straight.
//
// A level that is much fuller than the drawing is high stands in several columns; then a *row* of it
// holds as many nodes side by side. Rows and carriers are pulled towards the mean of their
// neighbours, and what keeps them apart is solved exactly for each level: least squares under order,
// by pooling adjacent violators (Ayer et al. 1955).
//
// I1  No two nodes overlap, and all nodes of a level are left of all nodes of the next.

export const NODE_WIDTH = 208;
export const NODE_HEIGHT = 44;
const ROW_GAP = 16;
const COLUMN_GAP = 20;
const CARRIER_HEIGHT = 8;
const LEVEL_GAP_MIN = 64;
const LEVEL_GAP_MAX = 190;
const LINK_ROOM = 1.5;
const ROWS_MIN = 30;
const ASPECT = 2;
const ROUNDS = 6;
const ROUNDS_LARGE = 3;
const LARGE = 20_000;

/**
 * @param {ReturnType<import("./ordering.js").orderOf>} graph
 * @param {number} nodes how many of the vertices are nodes
 * @returns {{x: Float32Array, y: Float32Array, starts: Float32Array, ends: Float32Array,
 *   width: number, height: number}} x and y are the left and the middle of each vertex; starts and
 *   ends the left and the right of each level
 */
export function placementOf(graph, nodes) {
  const rows = rowsOf(graph.order, nodes);
  const rowOf = new Int32Array(graph.levels.length);
  const weights = [];
  rows.forEach((level) => level.forEach((row) => {
    row.vertices.forEach((vertex) => { rowOf[vertex] = row.id; });
    weights[row.id] = row.vertices[0] >= nodes ? 6 : 1;
  }));
  const heights = settle(rows, neighboursOf(graph, rowOf, weights));
  return placed(graph, rows, heights, nodes);
}

function rowsOf(order, nodes) {
  const tall = Math.sqrt((nodes * (NODE_WIDTH + LEVEL_GAP_MIN)) / (ASPECT * (NODE_HEIGHT + ROW_GAP)));
  const rowsMax = Math.max(ROWS_MIN, Math.ceil(tall * 1.5));
  let id = 0;
  return order.map((level) => {
    const real = level.reduce((count, vertex) => count + (vertex < nodes), 0);
    const columns = real > 1.3 * rowsMax ? Math.ceil(real / rowsMax) : 1;
    const rows = [];
    for (const vertex of level) {
      const last = rows.at(-1);
      const fits = vertex < nodes && last && last.vertices[0] < nodes && last.vertices.length < columns;
      if (fits) last.vertices.push(vertex);
      else rows.push({ id: id++, height: vertex < nodes ? NODE_HEIGHT + ROW_GAP : CARRIER_HEIGHT, vertices: [vertex] });
    }
    return Object.assign(rows, { columns });
  });
}

/** For each row the rows on the level before and behind, with the weight of what joins them: an edge
 * that is the only one of its nodes has most, so that chains are straight. */
function neighboursOf({ down }, rowOf, weights) {
  const up = weights.map(() => []);
  const behind = weights.map(() => []);
  const arriving = new Int32Array(rowOf.length);
  down.forEach((targets) => targets.forEach((target) => { arriving[target] += 1; }));
  down.forEach((targets, source) => targets.forEach((target) => {
    const [from, to] = [rowOf[source], rowOf[target]];
    const weight = (weights[from] * weights[to]) / Math.max(targets.length, arriving[target]) ** 1.5;
    up[to].push([from, weight]);
    behind[from].push([to, weight]);
  }));
  return { up, down: behind };
}

function settle(rows, { up, down }) {
  const heights = new Float64Array(up.length);
  for (const level of rows) {
    let at = -level.reduce((sum, row) => sum + row.height, 0) / 2;
    for (const row of level) {
      heights[row.id] = at + row.height / 2;
      at += row.height;
    }
  }
  const rounds = up.length > LARGE ? ROUNDS_LARGE : ROUNDS;
  for (let round = 0; round < rounds; round += 1) {
    for (let at = 1; at < rows.length; at += 1) pull(rows[at], heights, [up]);
    for (let at = rows.length - 2; at >= 0; at -= 1) pull(rows[at], heights, [down]);
  }
  for (let at = 0; at < rows.length; at += 1) pull(rows[at], heights, [up, down]);
  return heights;
}

/** Move the rows of a level as close to the means of their neighbours as their order lets them. */
function pull(level, heights, sides) {
  const blocks = [];
  let offset = 0;
  level.forEach((row, place) => {
    if (place) offset += (level[place - 1].height + row.height) / 2;
    let [sum, weight] = [0, 0];
    for (const side of sides) {
      for (const [near, strength] of side[row.id]) {
        sum += heights[near] * strength;
        weight += strength;
      }
    }
    if (!weight) [sum, weight] = [heights[row.id] * 0.05, 0.05];
    let block = { sum: sum - offset * weight, weight, rows: [[row, offset]] };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight > block.sum / block.weight) {
      const before = blocks.pop();
      before.sum += block.sum;
      before.weight += block.weight;
      for (const each of block.rows) before.rows.push(each);
      block = before;
    }
    blocks.push(block);
  });
  for (const block of blocks) {
    for (const [row, shift] of block.rows) heights[row.id] = block.sum / block.weight + shift;
  }
}

function placed({ levels, down }, rows, heights, nodes) {
  const x = new Float32Array(levels.length), y = new Float32Array(levels.length);
  const starts = new Float32Array(rows.length), ends = new Float32Array(rows.length);
  const top = rows.reduce((least, level) => Math.min(least, heights[level[0].id] - level[0].height / 2), Infinity);
  let left = 0, bottom = 0;
  rows.forEach((level, at) => {
    starts[at] = left;
    ends[at] = left + level.columns * (NODE_WIDTH + COLUMN_GAP) - COLUMN_GAP;
    let links = 0;
    for (const row of level) {
      row.vertices.forEach((vertex, column) => {
        x[vertex] = left + column * (NODE_WIDTH + COLUMN_GAP);
        y[vertex] = heights[row.id] - top;
        bottom = Math.max(bottom, y[vertex] + row.height / 2);
        links += down[vertex].length;
      });
    }
    left = ends[at] + Math.min(LEVEL_GAP_MAX, LEVEL_GAP_MIN + LINK_ROOM * links);
  });
  return { x, y, starts, ends, width: rows.length ? ends.at(-1) : 0, height: bottom };
}
