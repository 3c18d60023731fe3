// Two models: the paired difference on each corpus, over domains and over all, where their predictions are in this page.
const MEANS = { events: "Mean of the events", music: "Mean of the music", speech: "Mean of the speech", all: "Mean of all", elsewhere: "Another corpus" };

function fillCompared() {
  const options = state.view.rows.map((row, index) => [index, row]);
  options.sort(([, a], [, b]) => a[ROW.published] - b[ROW.published] || (a[ROW.rank] ?? Infinity) - (b[ROW.rank] ?? Infinity) || names.compare(a[ROW.name], b[ROW.name]));
  const labels = options.map(([index, row]) => [index, rowLabel(row)]);
  for (const [id, place] of [["first", 0], ["second", 1]]) {
    const before = byId(id).value;
    fillSelect(byId(id), labels, before);
    if (before === "" && labels[place]) byId(id).value = labels[place][0];
  }
}

// The paired differences of two rows by key, first minus second; null where this page has none of the two.
function pairedBy(first, second) {
  const pairs = state.view.pairs;
  const [i, j] = [first, second].map((place) => (pairs ? pairs.rows.indexOf(place) : -1));
  if (i < 0 || j < 0 || i === j) return null;
  const [low, high] = [Math.min(i, j), Math.max(i, j)];
  let number = 0;
  for (let place = 0; place < low; place++) number += pairs.rows.length - 1 - place;
  const found = pairs.found[number + high - low - 1];
  const sign = i < j ? 1 : -1;
  return new Map(pairs.keys.map((key, index) => [key, found[index] && [sign * found[index][PAIR.difference], ...found[index].slice(1)]]).filter(([, pair]) => pair));
}

// Holm's correction of the p that are known, by key.
function holm(pairs) {
  const sorted = [...pairs].filter(([, pair]) => known(pair[PAIR.p])).sort(([, a], [, b]) => a[PAIR.p] - b[PAIR.p]);
  let largest = 0;
  return new Map(sorted.map(([key, pair], place) => [key, (largest = Math.max(largest, Math.min(1, (sorted.length - place) * pair[PAIR.p])))]));
}

const pText = (p) => (!known(p) ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3) === "0.050" ? p.toFixed(4) : p.toFixed(3));

// What is compared, line by line: {key, title, metric, a, b, pair, p} with scores where both have one.
function comparedLines() {
  const [first, second] = ["first", "second"].map((id) => Number(byId(id).value));
  const rows = [first, second].map((place) => state.view.rows[place]);
  const pairs = rows.includes(undefined) || first === second ? null : pairedBy(first, second);
  const lines = state.view.columns.map((column, index) => {
    const [a, b] = rows.map((row) => row?.[ROW.cells][index]);
    return { key: column[COLUMN.key], title: column[COLUMN.title], metric: metricName(column), a, b, pair: pairs?.get(column[COLUMN.key]) };
  });
  const shown = lines.filter(({ a, b }) => a && b);
  const corrected = holm(shown.filter(({ pair }) => pair).map(({ key, pair }) => [key, pair]));
  for (const line of shown) line.p = corrected.get(line.key);
  const domains = holm(["events", "music", "speech"].filter((key) => pairs?.has(key)).map((key) => [key, pairs.get(key)]));
  const means = Object.keys(MEANS).filter((key) => pairs?.has(key)).map((key) => {
    const pair = pairs.get(key);
    return { key, title: MEANS[key], metric: "", pair, p: domains.get(key), single: !domains.has(key) };
  });
  const without = lines.filter(({ a, b }) => !a !== !b).length;
  return { rows, lines: shown, means, without, paired: pairs !== null };
}

function verdict({ pair, p, single }, labels) {
  const decides = single ? pair?.[PAIR.p] : p;
  if (!pair) return "–";
  if (!known(decides)) return `too few units (${pair[PAIR.units]})`;
  return decides >= 0.05 ? "not shown" : pair[PAIR.difference] > 0 ? labels[0] : labels[1];
}

function drawCompare() {
  const { rows, lines, means, without, paired } = comparedLines();
  if (rows.includes(undefined) || rows[0] === rows[1]) {
    byId("compare-status").textContent = "Choose two models.";
    byId("compared").replaceChildren(empty("Choose two different models."));
    return;
  }
  const why = rows.some((row) => row[ROW.published])
    ? "The paper states scores alone: no interval of a difference can be made."
    : `No predictions of both are in this page (it holds those that lie beside complete results, without a †, of at most ${DATA.most_compared} models): arch-hf compare takes two folders of results.`;
  byId("compare-status").textContent =
    `${state.view.protocol}, layer ${layerName(state.view.layer)}: ${plural(lines.length, "corpus").replace("corpuss", "corpora")} that both have` + (without ? `, ${without} that one of them lacks ${without > 1 ? "are" : "is"} left out` : "") + ". " +
    (paired ? `A minus B in points, with the 95% interval of the paired difference on the same test clips. Which is better is said by Holm's p.` : why);
  const all = [...lines, ...means];
  const edges = all.flatMap(({ pair, a, b }) => (pair ? [pair[0] - (pair[PAIR.half] ?? 0), pair[0] + (pair[PAIR.half] ?? 0)] : [a[CELL.score] - b[CELL.score]]));
  const reach = Math.max(1, Math.min(100, Math.ceil(Math.max(...edges.map(Math.abs), 0) / 5) * 5));
  const place = (value) => `${50 + (50 * Math.max(-reach, Math.min(reach, value))) / reach}%`;
  const body = all.map((line) => compareRow(line, place));
  const axis = make("span", { class: "axis" }, make("span", {}, `−${reach}: B better`), make("span", {}, "0"), make("span", {}, `A better: ${reach}`));
  const heads = headCells("Corpus", "A − B", axis, "95% interval", "p", "p (Holm)", "Better", "A", "B", "Units");
  [...heads.querySelectorAll("th")].slice(7).forEach((th) => th.classList.add("wide"));
  byId("compared").replaceChildren(lines.length ? make("table", { class: "tracks" }, heads, make("tbody", {}, ...body)) : empty("The two have no corpus in common."));
}

function compareRow(line, place) {
  const { title, metric, a, b, pair, p } = line;
  const value = pair ? pair[PAIR.difference] : a[CELL.score] - b[CELL.score];
  const half = pair?.[PAIR.half];
  const track = make("span", { class: "track middle", "aria-hidden": "true" });
  if (known(half)) track.append(make("span", { class: "range", style: `left:${place(value - half)};right:calc(100% - ${place(value + half)})` }));
  track.append(make("span", { class: pair ? "dot" : "dot ring", style: `left:${place(value)}` }));
  const interval = known(half) ? `${signed(Math.max(-100, value - half))} to ${signed(Math.min(100, value + half))}` : "–";
  const head = make("th", { scope: "row", class: "first" }, bdi(title), metric ? make("small", { class: "under" }, metric) : null);
  const scores = [a, b].map((cell) => make("td", { class: "wide" }, cell ? two(cell[CELL.score]) + (known(cell[CELL.caveat]) ? "†" : "") : ""));
  const texts = [[interval], [pText(pair?.[PAIR.p]), "p"], [pText(p), "Holm"], [verdict(line, ["A", "B"]), "better"]];
  const cells = texts.map(([text, label]) => make("td", { "data-label": label }, text));
  return make("tr", { class: metric ? null : "mean" }, head, make("td", {}, signed(value)), make("td", { class: "trackcell" }, track), ...cells, ...scores, make("td", { class: "wide" }, pair ? String(pair[PAIR.units]) : "–"));
}

function downloadCompared() {
  const { rows, lines, means } = comparedLines();
  if (rows.includes(undefined)) return;
  const heads = ["corpus", "a", "b", "difference", "ci95_low", "ci95_high", "p", "p_holm", "units", "better"];
  download("comparison.csv", [["A", rowLabel(rows[0])], ["B", rowLabel(rows[1])], heads, ...[...lines, ...means].map((line) => {
    const { title, a, b, pair, p } = line;
    const half = pair?.[PAIR.half];
    const edges = known(half) ? [two(pair[0] - half), two(pair[0] + half)] : ["", ""];
    return [title, a?.[CELL.score], b?.[CELL.score], pair ? two(pair[0]) : two(a[CELL.score] - b[CELL.score]), ...edges, pair?.[PAIR.p], p, pair?.[PAIR.units], verdict(line, ["A", "B"])];
  })]);
}
for (const id of ["first", "second"]) byId(id).addEventListener("change", drawCompare);
byId("swap").addEventListener("click", () => {
  [byId("first").value, byId("second").value] = [byId("second").value, byId("first").value];
  drawCompare();
});
byId("compare-download").addEventListener("click", downloadCompared);
