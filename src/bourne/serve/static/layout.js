// Where nodes and edges of a layered graph are drawn: longest paths give the layers, sweeps the order, least squares the
// heights (Sugiyama, Tagawa, Toda 1981). Pure: sizes in, coordinates out.
//
// An edge over several layers gets a bend in each between, so that it runs around nodes, never through them.

export const NODE = { width: 200, height: 70, gapX: 60, gapY: 16 };
const BEND_HEIGHT = 6;
const SWEEPS = 24;

/** Return {width, height, nodes: Map(id -> {x, y, layer}), edges: [{from, to, path}]}, nodes in the order of reading. */
export function layOut(nodes, edges) {
  const layerOf = layers(nodes, edges);
  const cells = new Map(nodes.map((each) => [each.id, { id: each.id, layer: layerOf.get(each.id), height: NODE.height, before: [], after: [] }]));
  const drawn = edges.filter((each) => cells.has(each.from) && cells.has(each.to));
  const chains = drawn.map((edge) => chain(edge, cells));
  const columns = [];
  for (const cell of cells.values()) (columns[cell.layer] ??= []).push(cell);
  const filled = columns.filter(Boolean);
  order(filled);
  heights(filled);

  const all = [...cells.values()];
  const top = Math.min(0, ...all.map((each) => each.y - each.height / 2));
  const height = Math.max(0, ...all.map((each) => each.y + each.height / 2)) - top;
  filled.forEach((column, index) => column.forEach((cell) => (cell.x = index * (NODE.width + NODE.gapX))));
  all.forEach((each) => (each.y -= top));
  const places = filled.flat().filter((each) => !each.isBend).map((each) => [each.id, { x: each.x, y: each.y - NODE.height / 2, layer: each.layer }]);
  return {
    width: filled.length * (NODE.width + NODE.gapX) - NODE.gapX,
    height,
    nodes: new Map(places),
    edges: drawn.map((edge, index) => ({ ...edge, path: path(chains[index]) })),
  };
}

/** Sources first, then logs, views behind all that they read, sinks last. */
function layers(nodes, edges) {
  const inputs = new Map(nodes.map((each) => [each.id, []]));
  for (const { from, to } of edges) if (inputs.has(to) && inputs.has(from)) inputs.get(to).push(from);
  const found = new Map();
  const layer = (node) => {
    if (found.has(node.id)) return found.get(node.id);
    if (node.kind === "source") return 0;
    if (node.kind === "log") return 1;
    found.set(node.id, 2); // a circle, which there cannot be, would end here
    const from = inputs.get(node.id).map((id) => layer(byId.get(id)));
    const value = Math.max(1, ...from) + 1;
    found.set(node.id, value);
    return value;
  };
  const byId = new Map(nodes.map((each) => [each.id, each]));
  const result = new Map(nodes.filter((each) => each.kind !== "sink").map((each) => [each.id, layer(each)]));
  const last = Math.max(1, ...result.values()) + 1;
  for (const node of nodes) if (node.kind === "sink") result.set(node.id, last);
  return result;
}

/** The cells that an edge goes through, with bends where it crosses layers. */
function chain({ from, to }, cells) {
  const [first, last] = [cells.get(from), cells.get(to)];
  const through = [first];
  for (let layer = first.layer + 1; layer < last.layer; layer += 1) {
    const bend = { id: Symbol(`${from} ${to}`), layer, height: BEND_HEIGHT, isBend: true, before: [], after: [] };
    cells.set(bend.id, bend);
    through.push(bend);
  }
  through.push(last);
  for (let index = 1; index < through.length; index += 1) {
    through[index - 1].after.push(through[index]);
    through[index].before.push(through[index - 1]);
  }
  return through;
}

/** Order each column by the mean place of its neighbours, to and fro; keep the order with the fewest crossings. */
function order(columns) {
  const number = (column) => column.forEach((cell, index) => (cell.place = index));
  columns.forEach(number);
  let best = columns.map((column) => [...column]);
  let fewest = crossings(columns);
  for (let sweep = 0; sweep < SWEEPS && fewest; sweep += 1) {
    const forward = sweep % 2 === 0;
    for (const column of forward ? columns : [...columns].reverse()) {
      const mean = (cell) => {
        const near = forward ? cell.before : cell.after;
        return near.length ? near.reduce((sum, each) => sum + each.place, 0) / near.length : cell.place;
      };
      const means = new Map(column.map((cell) => [cell, mean(cell)]));
      column.sort((a, b) => means.get(a) - means.get(b) || a.place - b.place);
      number(column);
    }
    exchange(columns);
    const now = crossings(columns);
    if (now < fewest) {
      fewest = now;
      best = columns.map((column) => [...column]);
    }
  }
  best.forEach((column, index) => columns[index].splice(0, column.length, ...column));
  columns.forEach(number);
}

/** Exchange neighbours in a column where that takes crossings away, until nothing is gained. */
function exchange(columns) {
  let isBetter = true;
  for (let round = 0; isBetter && round < SWEEPS; round += 1) isBetter = columns.filter(exchangeIn).length > 0;
}

function exchangeIn(column) {
  let isBetter = false;
  for (let index = 1; index < column.length; index += 1) {
    const [upper, lower] = [column[index - 1], column[index]];
    if (pairCrossings(upper, lower) <= pairCrossings(lower, upper)) continue;
    column[index - 1] = lower;
    column[index] = upper;
    [upper.place, lower.place] = [lower.place, upper.place];
    isBetter = true;
  }
  return isBetter;
}

function pairCrossings(upper, lower) {
  const side = (above, below) => above.reduce((sum, a) => sum + below.filter((b) => b.place < a.place).length, 0);
  return side(upper.before, lower.before) + side(upper.after, lower.after);
}

function crossings(columns) {
  let sum = 0;
  for (const column of columns) {
    const ends = column.flatMap((cell) => cell.after.map((each) => each.place).sort((a, b) => a - b));
    for (let i = 0; i < ends.length; i += 1) for (let j = 0; j < i; j += 1) if (ends[j] > ends[i]) sum += 1;
  }
  return sum;
}

/** Move each cell towards its neighbours, as far as those in its column leave room. */
function heights(columns) {
  for (const column of columns) {
    let y = 0;
    for (const cell of column) {
      cell.y = y + cell.height / 2;
      y += cell.height + NODE.gapY;
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 === 0 ? columns : [...columns].reverse()) {
      const wanted = column.map((cell) => {
        const near = [...cell.before, ...cell.after];
        return near.length ? near.reduce((sum, each) => sum + each.y, 0) / near.length : cell.y;
      });
      settle(column, wanted);
    }
  }
}

/** The heights nearest to the wanted ones (by squares) that keep order and distance: pooled adjacent violators. */
function settle(column, wanted) {
  const offsets = [0];
  for (let index = 1; index < column.length; index += 1)
    offsets.push(offsets[index - 1] + (column[index - 1].height + column[index].height) / 2 + NODE.gapY);
  const blocks = [];
  column.forEach((cell, index) => {
    // A bend counts more, so that long edges are straight.
    let block = { sum: (wanted[index] - offsets[index]) * (cell.isBend ? 4 : 1), weight: cell.isBend ? 4 : 1, size: 1 };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight > block.sum / block.weight) {
      const above = blocks.pop();
      block = { sum: above.sum + block.sum, weight: above.weight + block.weight, size: above.size + block.size };
    }
    blocks.push(block);
  });
  let index = 0;
  for (const block of blocks)
    for (let each = 0; each < block.size; each += 1, index += 1) column[index].y = block.sum / block.weight + offsets[index];
}

/** A curve that leaves and comes in level. */
function path(through) {
  const parts = [`M${through[0].x + NODE.width} ${round(through[0].y)}`];
  for (let index = 1; index < through.length; index += 1) {
    const [from, to] = [through[index - 1], through[index]];
    const start = from.x + NODE.width;
    const middle = (start + to.x) / 2;
    parts.push(`C${middle} ${round(from.y)} ${middle} ${round(to.y)} ${to.x} ${round(to.y)}`);
    if (to.isBend) parts.push(`H${to.x + NODE.width}`);
  }
  return parts.join("");
}

const round = (value) => Math.round(value * 10) / 10;
