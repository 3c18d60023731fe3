// Scores by layer: one model on all corpora, or one corpus with all models, by relative depth (0 before the first block, 1 the last).
const layered = (() => {
  const models = new Map();
  for (const view of DATA.views) {
    for (const row of view.rows) {
      if (row[ROW.published]) continue;
      const key = `${view.protocol}\n${row[ROW.encoder]}`;
      if (!models.has(key)) models.set(key, { name: rowLabel(row), short: row[ROW.name], protocol: view.protocol, count: null, layers: [] });
      const model = models.get(key);
      model.count ??= row[ROW.layers] ?? null;
      model.layers.push({ layer: view.layer, view, row });
    }
  }
  const found = [...models.values()].filter((model) => model.layers.length > 1);
  for (const model of found) {
    model.layers.sort((a, b) => (a.layer === -1) - (b.layer === -1) || a.layer - b.layer);
    model.count ??= model.layers.at(-1).layer === -1 && model.layers.every(({ layer }, place) => layer === -1 || layer === place) ? model.layers.length : null;
  }
  return { models: found, single: new Set([...models.values()].filter((model) => model.layers.length < 2).map((model) => model.name)).size };
})();

const depthOf = (model, layer) => (layer === -1 ? 1 : model.count > 1 ? layer / (model.count - 1) : null);
const cellAt = ({ view, row }, key) => {
  const index = view.columns.findIndex((column) => column[COLUMN.key] === key);
  return index < 0 ? 0 : row[ROW.cells][index];
};

// Every corpus that a model has at two layers or more, as {key, title, domain}.
function layeredCorpora(models) {
  const found = new Map();
  for (const model of models) {
    for (const { view } of model.layers) {
      for (const column of view.columns) {
        const count = model.layers.filter((at) => cellAt(at, column[COLUMN.key])).length;
        if (count > 1 && state.domains.has(column[COLUMN.domain])) found.set(column[COLUMN.key], { key: column[COLUMN.key], title: column[COLUMN.title], domain: column[COLUMN.domain] });
      }
    }
  }
  const order = DATA.views[0].columns.map((column) => column[COLUMN.key]);
  const place = ({ key }) => (order.includes(key) ? order.indexOf(key) : order.length);
  return [...found.values()].sort((a, b) => place(a) - place(b));
}

function fillLayers() {
  const select = byId("layer-model");
  const before = select.value;
  const models = layered.models.map((model, index) => make("option", { value: `model ${index}` }, `${model.name}, ${model.protocol}`));
  const protocols = [...new Set(layered.models.map((model) => model.protocol))];
  const corpora = protocols.flatMap((protocol) => {
    const of = layered.models.filter((model) => model.protocol === protocol);
    return of.length < 2 ? [] : layeredCorpora(of).map(({ key, title }) => make("option", { value: `corpus ${protocol}\n${key}` }, `${title}, ${protocol}`));
  });
  select.replaceChildren(make("optgroup", { label: "One model, all corpora" }, ...models), make("optgroup", { label: "One corpus, all models" }, ...corpora));
  if ([...select.options].some(({ value }) => value === before)) select.value = before;
}

// What is drawn: lines of {title, stroke, dash, points [[depth, cell, layer]]}, and the layers that head the table.
function layerLines(choice) {
  if (choice.startsWith("model ")) {
    const model = layered.models[choice.slice(6)];
    const inDomain = {};
    const lines = layeredCorpora([model]).map(({ key, title, domain }) => {
      const dash = DASHES[(inDomain[domain] = (inDomain[domain] ?? -1) + 1) % DASHES.length];
      return { title, stroke: `var(--${domain})`, dash, points: model.layers.map((at) => [depthOf(model, at.layer), cellAt(at, key), at.layer]).filter(([, cell]) => cell) };
    });
    return { lines, layers: model.layers.map(({ layer }) => layer), ticks: model.layers.map(({ layer }) => [depthOf(model, layer), layerName(layer)]), without: [] };
  }
  const [protocol, key] = choice.slice(7).split("\n");
  const models = layered.models.filter((model) => model.protocol === protocol && model.layers.filter((at) => cellAt(at, key)).length > 1);
  const unplaced = models.filter((model) => model.count === null);
  const lines = models.filter((model) => model.count !== null).map((model, place) => ({
    title: model.name,
    short: model.short,
    stroke: `var(--line-${place % 6})`,
    dash: DASHES[Math.floor(place / 6) % DASHES.length],
    points: model.layers.map((at) => [depthOf(model, at.layer), cellAt(at, key), at.layer]).filter(([, cell]) => cell),
  }));
  const layers = [...new Set(lines.flatMap(({ points }) => points.map(([, , layer]) => layer)))].sort((a, b) => (a === -1) - (b === -1) || a - b);
  return { lines, layers, ticks: [[0, "0"], [0.25, "¼"], [0.5, "½"], [0.75, "¾"], [1, "last"]], without: unplaced.map((model) => model.name) };
}

function drawLayers() {
  const choice = byId("layer-model").value;
  byId("layers").hidden = byId("layer-chart").hidden = !choice;
  if (!choice) {
    byId("layer-status").textContent = "No model has scores at two layers or more: evaluate one with --layers all.";
    return;
  }
  const { lines, layers, ticks, without } = layerLines(choice);
  const placed = lines.filter(({ points }) => points.every(([depth]) => depth !== null));
  byId("layer-status").textContent =
    "Scores in percent by layer, at its relative depth: left the output of the convolutions or patches (0), right the last layer, which the leaderboard shows. Bold: best of its line." +
    (layered.single ? ` Left out: ${plural(layered.single, "model")} with one layer only.` : "") +
    (without.length ? ` Left out, as their results do not say how many layers there are: ${without.join(", ")}.` : "") +
    (placed.length < lines.length ? " Not drawn, as the results do not say how many layers there are; the table has the numbers." : "");
  byId("layer-chart").replaceChildren(...(placed.length ? [layerChart(placed, ticks.filter(([depth]) => depth !== null))] : []));
  const body = lines.map(({ title, points }) => {
    const alike = new Set(points.map(([, cell]) => cell[CELL.caveat] ?? null)).size === 1; // all of the same part of a corpus are fair to each other
    const fair = points.map(([, cell]) => cell).filter((cell) => alike || !known(cell[CELL.caveat]));
    const best = Math.max(...fair.map((cell) => cell[CELL.score]));
    const cells = layers.map((layer) => points.find(([, , other]) => other === layer)?.[1]);
    return make("tr", {}, make("th", { scope: "row", class: "first" }, breakable(title)), ...cells.map((cell) => {
      if (!cell) return make("td", { class: "none" }, "–");
      const caveat = known(cell[CELL.caveat]);
      const isBest = fair.includes(cell) && cell[CELL.score] === best;
      return make("td", { class: [caveat && "caveat", isBest && "size-best"].filter(Boolean).join(" ") || null }, two(cell[CELL.score]) + (caveat ? "†" : ""));
    }));
  });
  byId("layers").replaceChildren(make("table", {}, headCells(choice.startsWith("model ") ? "Corpus" : "Model", ...layers.map(layerName)), make("tbody", {}, ...body)));
}

const DASHES = ["", "7 3", "2 3", "8 3 2 3"];

// Drawn at the width that there is, so that its words are as large on a phone as elsewhere.
function layerChart(lines, ticks) {
  const width = Math.max(300, byId("layer-chart").clientWidth || 900);
  const right = width < 560 ? 84 : 150;
  const [left, top, bottom] = [40, 14, 34];
  const height = Math.max(300, Math.min(460, 0.45 * width), top + bottom + 15 * lines.length);
  const scores = lines.flatMap(({ points }) => points.map(([, cell]) => cell[CELL.score]));
  const low = Math.max(0, Math.floor(Math.min(...scores) / 10) * 10);
  const high = Math.max(low + 10, Math.min(100, Math.ceil(Math.max(...scores) / 10) * 10));
  const x = (depth) => left + (width - left - right) * depth;
  const y = (score) => top + ((height - top - bottom) * (high - score)) / (high - low);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Scores by layer, one line each; the table below holds the numbers", width, height });
  for (let tick = low; tick <= high; tick += 10)
    svg.append(makeSvg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }), makeSvg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end", class: "soft" }, String(tick)));
  let free = -Infinity;
  for (const [depth, text] of ticks) {
    const last = depth === 1;
    if (!last && (x(depth) < free || x(depth) > x(1) - 30)) continue;
    svg.append(makeSvg("text", { x: x(depth), y: height - 10, "text-anchor": "middle", class: "soft" }, text));
    free = x(depth) + 26;
  }
  const labels = [];
  for (const { title, short, stroke, dash, points } of lines) {
    const places = points.map(([depth, cell]) => [x(depth), y(cell[CELL.score])]);
    svg.append(makeSvg("polyline", { points: places.map((point) => point.join(",")).join(" "), fill: "none", style: `stroke:${stroke}`, "stroke-width": 2, "stroke-dasharray": dash }));
    for (const [cx, cy] of places) svg.append(makeSvg("circle", { cx, cy, r: 2.5, style: `fill:${stroke}` }));
    labels.push({ text: short ?? title, at: places.at(-1)[1], stroke });
  }
  labels.sort((a, b) => a.at - b.at);
  labels.forEach((label, index) => (label.at = Math.max(label.at, index ? labels[index - 1].at + 13 : top)));
  for (let index = labels.length - 1, limit = height - bottom + 8; index >= 0; index--, limit -= 13) labels[index].at = Math.min(labels[index].at, limit);
  const longest = Math.floor((right - 12) / 7.2);
  // Rather without its owner than without its middle.
  const fitting = (text) => (text.length > longest ? text.slice(text.lastIndexOf("/") + 1) : text);
  const cut = (text) => (text.length > longest ? text.slice(0, Math.floor(longest / 2) - 1) + "…" + text.slice(-Math.floor(longest / 2)) : text);
  for (const { text, at, stroke } of labels) svg.append(makeSvg("text", { x: width - right + 10, y: at + 4, style: `fill:${stroke}` }, cut(fitting(text))));
  return svg;
}
