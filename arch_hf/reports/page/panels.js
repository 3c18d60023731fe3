// The other views: intervals of one corpus, classes of one result, layers of one model.

function headCells(...titles) {
  return make("thead", { class: "single" }, make("tr", { class: "heads" }, ...titles.map((title, index) => {
    const attributes = { scope: "col", class: index ? null : "first", style: "padding:.36rem .55rem" };
    return make("th", attributes, title);
  })));
}

function drawIntervals() {
  const index = Number(byId("interval-corpus").value);
  const column = state.view.columns[index];
  const rows = state.view.rows.filter((row) => row[ROW.cells][index] && passes(row));
  const cellOf = (row) => row[ROW.cells][index];
  rows.sort((a, b) => cellOf(b)[CELL.score] - cellOf(a)[CELL.score]);
  byId("interval-status").textContent =
    `${column[COLUMN.title]}, ${metricName(column)} in percent, ${state.view.protocol}, layer ${layerName(state.view.layer)}: ${plural(rows.length, "model")}.` +
    " Line: 95% interval. Ring: published.";
  const edges = rows.flatMap((row) => [cellOf(row)[CELL.low] ?? cellOf(row)[CELL.score], cellOf(row)[CELL.high] ?? cellOf(row)[CELL.score]]);
  const low = Math.max(0, Math.floor(Math.min(...edges) / 5) * 5);
  const high = Math.min(100, Math.ceil(Math.max(...edges) / 5) * 5) || 1;
  const place = (value) => `${(100 * (value - low)) / Math.max(1, high - low)}%`;
  const body = make("tbody", {}, ...rows.map((row) => {
    const cell = cellOf(row);
    const track = make("span", { class: "track", "aria-hidden": "true" });
    if (known(cell[CELL.low])) track.append(make("span", { class: "range", style: `left:${place(cell[CELL.low])};right:calc(100% - ${place(cell[CELL.high])})` }));
    track.append(make("span", { class: row[ROW.published] ? "dot ring" : "dot", style: `left:${place(cell[CELL.score])}` }));
    const interval = known(cell[CELL.low]) ? `${two(cell[CELL.low])} to ${two(cell[CELL.high])}` : "–";
    const score = two(cell[CELL.score]) + (known(cell[CELL.caveat]) ? "†" : "");
    return make("tr", { class: row[ROW.published] ? null : "own" }, drawName(row), make("td", {}, score), make("td", {}, interval), make("td", { class: "trackcell" }, track));
  }));
  const axis = make("span", { class: "axis" }, make("span", {}, `${low}%`), make("span", {}, `${high}%`));
  byId("intervals").replaceChildren(rows.length ? make("table", {}, headCells("Model", "Score", "95% interval", axis), body) : make("p", { class: "empty" }, "No score of this corpus passes the filters."));
}

// Classes ---------------------------------------------------------------------------------------------------------

const detailed = (row) => row[ROW.cells].some((cell) => cell && known(cell[CELL.detail]));
const classSort = { key: "score", down: false };

function openClasses(row, index) {
  showTab("classes");
  byId("class-model").value = state.view.rows.indexOf(row);
  fillClassCorpora(index);
  drawClasses();
  byId("class-model").focus();
}

function fillClassModels() {
  const options = state.view.rows.map((row, index) => [index, row]).filter(([, row]) => detailed(row));
  options.sort(([, a], [, b]) => (a[ROW.rank] ?? Infinity) - (b[ROW.rank] ?? Infinity) || names.compare(a[ROW.name], b[ROW.name]));
  fillSelect(byId("class-model"), options.map(([index, row]) => [index, rowLabel(row)]), byId("class-model").value);
  fillClassCorpora(byId("class-corpus").value);
}

function fillClassCorpora(chosen) {
  const row = state.view.rows[byId("class-model").value];
  const columns = state.view.columns.map((column, index) => [index, column]).filter(([index]) => row && row[ROW.cells][index] && known(row[ROW.cells][index][CELL.detail]));
  fillSelect(byId("class-corpus"), columns.map(([index, column]) => [index, column[COLUMN.title]]), chosen);
}

function drawClasses() {
  const row = state.view.rows[byId("class-model").value];
  const index = byId("class-corpus").value;
  byId("classes").hidden = byId("confusion").hidden = !row || index === "";
  if (!row || index === "") {
    byId("class-status").textContent = "No result of this protocol and layer holds scores by class.";
    return;
  }
  const column = state.view.columns[index];
  const [classSet, scores, counts] = DATA.details[row[ROW.cells][index][CELL.detail]];
  const classes = DATA.classes[classSet];
  byId("class-status").textContent = `${classes.length} classes of ${column[COLUMN.title]}, ${state.view.protocol}: ${column[COLUMN.metric] === "map_macro" ? "average precision" : "share of the class's clips recognised"}, in percent.`;
  drawClassTable(classes, scores);
  drawConfusion(classes, counts);
}

function drawClassTable(classes, scores) {
  const order = classes.map((name, index) => index);
  const sign = classSort.down ? -1 : 1;
  order.sort((a, b) => (classSort.key === "name" ? sign * names.compare(classes[a], classes[b]) : sign * ((scores[a] ?? 2000) - (scores[b] ?? 2000))));
  const head = (key, title, attributes) => {
    const sorted = classSort.key === key ? (classSort.down ? "descending" : "ascending") : null;
    const turn = () => {
      classSort.down = classSort.key === key ? !classSort.down : false;
      classSort.key = key;
      drawClassTable(classes, scores);
      byId("classes").querySelector(`[data-key="${key}"]`).focus();
    };
    return make("th", { scope: "col", "aria-sort": sorted, ...attributes }, make("button", { type: "button", class: "sort", "data-key": key, onclick: turn }, title));
  };
  const lines = order.map((index) => make("tr", {},
    make("th", { scope: "row", class: "first" }, bdi(classes[index])),
    make("td", {}, known(scores[index]) ? (scores[index] / 10).toFixed(1) : "–"),
    make("td", { class: "barcell", "aria-hidden": "true" }, make("span", { class: "bar", style: `width:${(scores[index] ?? 0) / 10}%` }))));
  const heads = make("thead", { class: "single" }, make("tr", { class: "heads" }, head("name", "Class", { class: "first" }), head("score", "Score"), make("td", { "aria-hidden": "true" })));
  byId("classes").replaceChildren(make("table", {}, heads, make("tbody", {}, ...lines)));
}

const brief = (count) => String(Math.round(10 * count) / 10);

function unpack(counts, size) {
  const flat = [];
  for (const count of counts) {
    if (count > 0) flat.push(count);
    else for (let zeros = -count; zeros > 0; zeros--) flat.push(0);
  }
  return Array.from({ length: size }, (_, index) => flat.slice(index * size, (index + 1) * size));
}

function drawConfusion(classes, counts) {
  const box = byId("confusion");
  if (!counts) return box.replaceChildren(make("p", { class: "note" }, "No confusion matrix: the result has none (many labels per clip, or very many classes), or it was left out to keep this page small."));
  const matrix = unpack(counts, classes.length);
  const sums = matrix.map((line) => line.reduce((sum, count) => sum + count, 0) || 1);
  const mistakes = matrix.flatMap((line, truth) => line.map((count, guess) => ({ truth, guess, count }))).filter(({ truth, guess, count }) => truth !== guess && count);
  mistakes.sort((a, b) => b.count / sums[b.truth] - a.count / sums[a.truth]);
  const worst = mistakes.slice(0, 5).map(({ truth, guess, count }) => make("li", {}, bdi(classes[truth]), " taken for ", bdi(classes[guess]), `: ${brief(count)} of ${brief(sums[truth])}`));
  const caption = make("figcaption", {}, "Confusion matrix: rows are the truth, columns the guess; the darker, the larger the share of the row.", worst.length ? make("ul", {}, ...worst) : null);
  const wide = classes.length > 24;
  const heads = make("tr", {}, make("td", {}), ...classes.map((name) => make("th", { scope: "col" }, make("span", {}, bdi(name)))));
  const lines = matrix.map((line, truth) => make("tr", {}, make("th", { scope: "row" }, bdi(classes[truth])), ...line.map((count, guess) => {
    const share = Math.round((45 * count) / sums[truth]);
    const text = count && !wide ? brief(count) : "";
    const style = share ? `background:color-mix(in srgb, var(--accent) ${share}%, var(--card))` : null;
    return make("td", { style, title: count ? `${classes[truth]} → ${classes[guess]}: ${brief(count)}` : null }, text);
  })));
  const table = make("table", { class: "matrix" }, make("thead", {}, heads), make("tbody", {}, ...lines));
  box.replaceChildren(make("figure", { class: "figure" }, caption, make("div", { class: "scroll", role: "region", "aria-label": "Confusion matrix", tabindex: 0 }, table)));
}

// Layers ----------------------------------------------------------------------------------------------------------

const layered = (() => {
  const models = new Map();
  for (const view of DATA.views) {
    for (const row of view.rows) {
      if (row[ROW.published]) continue;
      const key = [view.protocol, row[ROW.id], row[ROW.revision]].join("\n");
      if (!models.has(key)) models.set(key, { label: `${rowLabel(row)}, ${view.protocol}`, layers: [] });
      models.get(key).layers.push({ layer: view.layer, view, row });
    }
  }
  const found = [...models.values()].filter((model) => model.layers.length > 1);
  for (const model of found) model.layers.sort((a, b) => (a.layer === -1) - (b.layer === -1) || a.layer - b.layer);
  return found;
})();

function drawLayers() {
  const model = layered[byId("layer-model").value];
  byId("layers").hidden = byId("layer-chart").hidden = !model;
  if (!model) {
    byId("layer-status").textContent = "No model has scores at two layers or more: evaluate one with --layers all.";
    return;
  }
  byId("layer-status").textContent = "Scores in percent at each layer (0 is the output of the convolutions or patches, last the layer of the leaderboard). Bold: best of the corpus.";
  const lines = new Map();
  model.layers.forEach(({ view, row }, position) => view.columns.forEach((column, index) => {
    const cell = row[ROW.cells][index];
    if (!cell || !state.domains.has(column[COLUMN.domain])) return;
    if (!lines.has(column[COLUMN.key])) lines.set(column[COLUMN.key], { column, cells: Array(model.layers.length).fill(null) });
    lines.get(column[COLUMN.key]).cells[position] = cell;
  }));
  byId("layer-chart").replaceChildren(layerChart(model, [...lines.values()]));
  const body = [...lines.values()].map(({ column, cells }) => {
    const best = Math.max(...cells.filter((cell) => cell && !known(cell[CELL.caveat])).map((cell) => cell[CELL.score]));
    return make("tr", {}, make("th", { scope: "row", class: "first" }, bdi(column[COLUMN.title])), ...cells.map((cell) => {
      if (!cell) return make("td", { class: "none" }, "–");
      const caveat = known(cell[CELL.caveat]);
      return make("td", { class: caveat ? "caveat" : cell[CELL.score] === best ? "size-best" : null }, two(cell[CELL.score]) + (caveat ? "†" : ""));
    }));
  });
  byId("layers").replaceChildren(make("table", {}, headCells("Corpus", ...model.layers.map(({ layer }) => layerName(layer))), make("tbody", {}, ...body)));
}

const DASHES = ["", "7 3", "2 3", "8 3 2 3"];

function layerChart(model, lines) {
  const [width, height, left, right, top, bottom] = [900, 380, 44, 110, 14, 34];
  const scores = lines.flatMap(({ cells }) => cells.filter(Boolean).map((cell) => cell[CELL.score]));
  const low = Math.floor(Math.min(...scores) / 10) * 10;
  const high = Math.min(100, Math.ceil(Math.max(...scores) / 10) * 10);
  const x = (position) => left + ((width - left - right) * position) / Math.max(1, model.layers.length - 1);
  const y = (score) => top + ((height - top - bottom) * (high - score)) / Math.max(1, high - low);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Scores by layer, one line per corpus; the table below holds the numbers", width });
  for (let tick = low; tick <= high; tick += 10)
    svg.append(makeSvg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }), makeSvg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end", class: "soft" }, String(tick)));
  const step = Math.ceil(model.layers.length / 25);
  model.layers.forEach(({ layer }, position) => {
    if (position % step === 0 || layer === -1) svg.append(makeSvg("text", { x: x(position), y: height - 10, "text-anchor": "middle", class: "soft" }, layerName(layer)));
  });
  const labels = [];
  const inDomain = {};
  for (const { column, cells } of lines) {
    const domain = column[COLUMN.domain];
    const dash = DASHES[(inDomain[domain] = (inDomain[domain] ?? -1) + 1) % DASHES.length];
    const points = cells.map((cell, position) => cell && [x(position), y(cell[CELL.score])]).filter(Boolean);
    const stroke = `var(--${domain})`;
    svg.append(makeSvg("polyline", { points: points.map((point) => point.join(",")).join(" "), fill: "none", style: `stroke:${stroke}`, "stroke-width": 2, "stroke-dasharray": dash }));
    for (const [cx, cy] of points) svg.append(makeSvg("circle", { cx, cy, r: 2.5, style: `fill:${stroke}` }));
    if (points.length) labels.push({ text: column[COLUMN.title], at: points.at(-1)[1], stroke });
  }
  labels.sort((a, b) => a.at - b.at);
  labels.forEach((label, index) => (label.at = Math.max(label.at, index ? labels[index - 1].at + 13 : top)));
  for (let index = labels.length - 1, limit = height - bottom + 8; index >= 0; index--, limit -= 13) labels[index].at = Math.min(labels[index].at, limit);
  for (const { text, at, stroke } of labels) svg.append(makeSvg("text", { x: width - right + 10, y: at + 4, style: `fill:${stroke}` }, text.length > 15 ? text.slice(0, 14) + "…" : text));
  return svg;
}
