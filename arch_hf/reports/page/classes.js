// Classes of one result: scores and confusion.
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
    return make("th", { scope: "col", "aria-sort": sorted, ...attributes }, make("button", { type: "button", class: "sort", "data-key": key, onclick: turn }, bdi(title)));
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

