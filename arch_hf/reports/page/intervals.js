// Intervals: one corpus, every model that has a score on it.
function intervalRows() {
  const index = Number(byId("interval-corpus").value);
  const rows = state.view.rows.filter((row) => row[ROW.cells][index] && passes(row));
  rows.sort((a, b) => (state.ownFirst && a[ROW.published] - b[ROW.published]) || b[ROW.cells][index][CELL.score] - a[ROW.cells][index][CELL.score]);
  return { index, column: state.view.columns[index], rows };
}

function drawIntervals() {
  const { index, column, rows } = intervalRows();
  const cellOf = (row) => row[ROW.cells][index];
  const without = state.view.rows.filter((row) => passes(row) && !cellOf(row)).length;
  byId("interval-status").textContent =
    `${column[COLUMN.title]}, ${metricName(column)} in percent, ${state.view.protocol}, layer ${layerName(state.view.layer)}: ${plural(rows.length, "model")}.` +
    (without ? ` Left out: ${plural(without, "model")} without a score on it.` : "") +
    " Line: 95% interval. Ring: published.";
  const edges = rows.flatMap((row) => [cellOf(row)[CELL.low] ?? cellOf(row)[CELL.score], cellOf(row)[CELL.high] ?? cellOf(row)[CELL.score]]);
  const low = Math.max(0, Math.floor(Math.min(...edges) / 5) * 5);
  const high = Math.min(100, Math.ceil(Math.max(...edges) / 5) * 5) || 1;
  const place = (value) => `${(100 * (value - low)) / Math.max(1, high - low)}%`;
  const shots = [...new Set(rows.flatMap((row) => (cellOf(row)[CELL.shots] ?? []).map(([count]) => count)))].sort((a, b) => a - b);
  const body = rows.map((row) => {
    const cell = cellOf(row);
    const track = make("span", { class: "track", "aria-hidden": "true" });
    if (known(cell[CELL.low])) track.append(make("span", { class: "range", style: `left:${place(cell[CELL.low])};right:calc(100% - ${place(cell[CELL.high])})` }));
    track.append(make("span", { class: row[ROW.published] ? "dot ring" : "dot", style: `left:${place(cell[CELL.score])}` }));
    const remark = cell[CELL.low] === cell[CELL.high] ? " (these clips alone)" : known(cell[CELL.fewUnits]) ? ` (${cell[CELL.fewUnits]} units, too few)` : "";
    const interval = known(cell[CELL.low]) ? `${two(cell[CELL.low])} to ${two(cell[CELL.high])}${remark}` : "–";
    const score = two(cell[CELL.score]) + (known(cell[CELL.caveat]) ? "†" : "");
    const spreads = [CELL.stdFolds, CELL.stdSeeds].map((field) => make("td", { class: "wide" }, known(cell[field]) ? two(cell[field]) : "–"));
    const few = shots.map((count) => (cell[CELL.shots] ?? []).find(([other]) => other === count)).map((found) => make("td", { class: "wide" }, found ? `${two(found[1])} ± ${two(found[2])}` : "–"));
    return make("tr", { class: row[ROW.published] ? null : "own" }, drawName(row), make("td", {}, score), make("td", { class: "trackcell" }, track), make("td", {}, interval), ...spreads, ...few);
  });
  const axis = make("span", { class: "axis" }, make("span", {}, `${low}%`), make("span", {}, `${high}%`));
  const heads = headCells("Model", "Score", axis, "95% interval", "std folds", "std seeds", ...shots.map((count) => `${count}-shot`));
  [...heads.querySelectorAll("th")].slice(4).forEach((th) => th.classList.add("wide"));
  byId("intervals").replaceChildren(rows.length ? make("table", { class: "tracks" }, heads, make("tbody", {}, ...body)) : empty("No score of this corpus passes the filters."));
}

function downloadIntervals() {
  const { index, column, rows } = intervalRows();
  const heads = ["model", "score", "ci95_low", "ci95_high", "std_folds", "std_seeds", "incomplete", "shots"];
  const fields = [CELL.score, CELL.low, CELL.high, CELL.stdFolds, CELL.stdSeeds, CELL.caveat];
  download(`intervals_${column[COLUMN.key].replaceAll(/[^\w.-]+/g, "_")}.csv`, [heads, ...rows.map((row) => {
    const cell = row[ROW.cells][index];
    return [rowLabel(row), ...fields.map((field) => cell[field]), (cell[CELL.shots] ?? []).map(shotsText).join("; ")];
  })]);
}
byId("interval-download").addEventListener("click", downloadIntervals);
