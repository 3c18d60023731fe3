// The leaderboard itself: one table of the chosen view, sorted and filtered.
const board = { box: byId("board"), rows: [], columns: [], active: null, limit: 100 };

// The columns to draw: {key, title, under, group, value(row), draw(td, row)}.
function boardColumns() {
  const columns = [
    { key: "name", title: "Model", value: (row) => row[ROW.name], text: true },
    { key: "size", title: "Size", width: 4, value: (row) => row[ROW.parameters] ?? null, draw: drawSize },
    { key: "rank", title: "Rank", width: 4.4, value: (row) => row[ROW.rank], draw: drawRank, up: true },
  ];
  const mean = (title, index, group) => ({
    key: "mean-" + AVERAGES[index],
    title,
    group,
    start: true,
    width: group ? 4.6 : 5,
    under: group ? "ARCH's 4" : "of all 12",
    value: (row) => row[ROW.averages][index],
    draw: (td, value) => td.append(two(value)),
  });
  // A view in which no model has all corpora of a domain has no such mean.
  const hasMean = (index) => index >= 0 && state.view.rows.some((row) => known(row[ROW.averages][index]));
  if (hasMean(3)) columns.push(mean("Mean", 3));
  // Those with a score, domain by domain, the paper's corpora first.
  const place = ([column]) => Object.keys(DATA.domains).indexOf(column[COLUMN.domain]);
  const scored = state.view.columns.map((column, index) => [column, index]).filter(([, index]) => state.view.rows.some((row) => row[ROW.cells][index]));
  scored.sort((a, b) => place(a) - place(b)).forEach(([column, index]) => {
    const domain = column[COLUMN.domain];
    if (!state.domains.has(domain)) return;
    const average = AVERAGES.indexOf(domain);
    const first = !columns.some((other) => other.group === domain);
    const withMean = first && hasMean(average);
    if (withMean) columns.push(mean("Mean", average, domain));
    columns.push({ ...scoreColumn(column, index, domain), start: first && !withMean });
  });
  return columns;
}

const hasDelta = (view, index) => view.rows.some((row) => row[ROW.cells][index] && known(row[ROW.cells][index][CELL.delta]));

function scoreColumn(column, index, group) {
  return {
    key: "score-" + index,
    index,
    title: column[COLUMN.title],
    under: column[COLUMN.metric] === "map_macro" ? "mAP" : null,
    group,
    width: Math.min(14, Math.max(4.8, 2.2 + 0.58 * column[COLUMN.title].length)),
    value: (row) => (row[ROW.cells][index] ? row[ROW.cells][index][CELL.score] : null),
    draw(td, value, row) {
      const cell = row[ROW.cells][index];
      td.append(two(value) + (known(cell[CELL.caveat]) ? "†" : ""));
      const delta = cell[CELL.delta];
      if (state.differences.has("delta") && known(delta)) td.append(make("span", { class: `under delta ${!isDecided(cell) ? "" : delta > 0 ? "plus" : delta < 0 ? "minus" : ""}` }, "Δ " + signed(delta) + doubt(cell)));
      td.className = known(cell[CELL.caveat]) ? "caveat" : cell[CELL.marks] & 2 ? "best" : "";
      if (cell[CELL.marks] & 1) td.classList.add("size-best");
      td.explain = () => explain(row, column, cell);
      if (known(cell[CELL.detail])) td.open = () => openClasses(row, index);
    },
  };
}

function drawSize(td, value, row) {
  td.append(row[ROW.size] || "–");
  if (row[ROW.parameters]) td.append(make("span", { class: "under" }, millions(row[ROW.parameters])));
}

function drawRank(td, value, row) {
  td.append(String(value), make("span", { class: "under" }, "ø " + two(row[ROW.meanRank])));
}

function drawBoard() {
  tip.hide();
  board.columns = boardColumns();
  if (!board.columns.some((column) => column.key === state.sort.key)) state.sort = { key: "rank", down: false };
  const body = make("tbody");
  board.rows = state.view.rows.map((row) => ({ row }));
  const table = make("table", { role: "grid", "aria-label": `Scores, ${state.view.protocol}, layer ${layerName(state.view.layer)}` }, ...drawWidths(), drawHead(), body);
  table.style.width = `max(100%, calc(var(--name) + ${board.columns.reduce((sum, column) => sum + (column.width ?? 0), 0)}rem))`;
  board.box.replaceChildren(table);
  board.body = body;
  byId("notes").replaceChildren(...state.view.notes.map((note) => make("li", {}, bdi(note))));
  arrange();
}

// Widths are given, not measured: with thousands of cells that is what makes sorting quick.
function drawWidths() {
  const column = ({ width }) => make("col", { style: width ? `width:${width}rem` : "width:var(--name)" });
  return [make("colgroup", {}, ...board.columns.map(column))];
}

function drawHead() {
  const groups = [];
  for (const { group } of board.columns) {
    if (groups.length && groups.at(-1).group === group) groups.at(-1).span++;
    else groups.push({ group, span: 1 });
  }
  const row = make("tr", { class: "groups" });
  groups.forEach(({ group, span }, index) => {
    const cell = group
      ? make("th", { colspan: span, scope: "colgroup", class: "start", style: `--c: var(--${group})` }, DATA.domains[group])
      : make("td", { colspan: span, class: index ? "" : "corner" });
    if (!group) cell.setAttribute("aria-hidden", "true");
    row.append(cell);
  });
  const heads = make("tr", { class: "heads" });
  board.columns.forEach((column, index) => {
    const button = make("button", { type: "button", class: "sort", tabindex: -1, "aria-label": column.label, onclick: () => sortBy(column) }, bdi(column.title));
    if (column.under) button.append(make("small", {}, column.under));
    const classes = [index === 0 ? "first" : "", column.start ? "start" : ""].join(" ").trim();
    column.head = make("th", { scope: "col", class: classes || null }, button);
    heads.append(column.head);
  });
  return make("thead", {}, row, heads);
}

function drawRow(row) {
  const tr = make("tr", { class: row[ROW.published] ? null : "own" }, drawName(row));
  for (const column of board.columns.slice(1)) {
    const value = column.value(row);
    const td = make("td", { tabindex: -1 });
    if (known(value)) column.draw(td, value, row);
    else {
      td.className = "none";
      td.append("–");
    }
    if (column.start) td.classList.add("start");
    tr.append(td);
  }
  return tr;
}

// A name that, where it does not fit, rather breaks behind a slash than within a word.
const breakable = (name, attributes) => {
  const element = bdi("", attributes);
  name.split(/(?<=\/)/).forEach((part, index) => element.append(...(index ? [make("wbr"), part] : [part])));
  return element;
};

function drawName(row) {
  const name = row[ROW.name] + (row[ROW.audioset] ? " ◇" : "");
  const label = row[ROW.page]
    ? make("a", { class: "model", href: row[ROW.page], target: "_blank", rel: "noopener noreferrer", tabindex: -1 }, breakable(name))
    : breakable(name, { class: "model" });
  const th = make("th", { scope: "row", class: "first", tabindex: -1 }, label);
  const under = [];
  if (row[ROW.published]) under.push(make("span", { class: "badge" }, "paper"), " ", bdi(row[ROW.id]));
  if (row[ROW.variant]) under.push(make("span", { class: "badge" }, bdi(row[ROW.variant])), " ");
  if (row[ROW.revision]) under.push(bdi("@ " + row[ROW.revision].slice(0, 12)));
  if (row[ROW.also]) under.push(bdi(` also ${row[ROW.also]}`));
  if (under.length) th.append(make("small", {}, ...under));
  return th;
}

function sortBy(column) {
  const same = state.sort.key === column.key;
  state.sort = { key: column.key, down: same ? !state.sort.down : !(column.text || column.up) };
  arrange();
}

// Put the rows that pass the filters in order. Hundreds of rows take a browser a while to lay out, so the first hundred are drawn
// until more are asked for; a row is drawn when it is first needed.
function shownRows() {
  const column = board.columns.find(({ key }) => key === state.sort.key);
  const sign = state.sort.down ? -1 : 1;
  const order = board.rows.filter(({ row }) => passes(row)).map((entry) => ({ entry, value: column.value(entry.row) }));
  order.sort((a, b) => {
    const source = a.entry.row[ROW.published] - b.entry.row[ROW.published];
    if (state.ownFirst && source) return source;
    if (!known(a.value) || !known(b.value)) return known(b.value) - known(a.value); // unknown last, either way
    return sign * (column.text ? names.compare(a.value, b.value) : a.value - b.value);
  });
  return order;
}

function arrange() {
  const column = board.columns.find(({ key }) => key === state.sort.key);
  const order = shownRows();
  const drawn = order.slice(0, board.limit).map(({ entry }) => (entry.tr ??= drawRow(entry.row)));
  board.body.replaceChildren(...drawn);
  byId("more").hidden = drawn.length === order.length;
  byId("more").textContent = `Show all ${order.length} models`;
  for (const other of board.columns) other.head.removeAttribute("aria-sort");
  column.head.setAttribute("aria-sort", state.sort.down ? "descending" : "ascending");
  byId("status").textContent =
    `${order.length} of ${plural(board.rows.length, "model")}, sorted by ${column.label ?? column.title}, ${state.sort.down ? "highest" : column.text ? "A" : "lowest"} first` +
    (state.ownFirst && order.some(({ entry }) => entry.row[ROW.published]) && order.some(({ entry }) => !entry.row[ROW.published]) ? ", those evaluated here before those of the paper." : ".") +
    (order.length ? "" : " Loosen the filters to see some.");
  activate(board.box.querySelector(".sort"), false);
}

// One tab stop for the whole grid; the arrow keys move inside it.
function activate(element, focus = true) {
  board.active?.setAttribute("tabindex", "-1");
  board.active = element;
  element.setAttribute("tabindex", "0");
  if (focus) element.focus();
}

function gridPosition(element) {
  const lines = [...board.box.querySelectorAll("tr.heads, tbody tr")];
  const cell = element.closest("th, td");
  return { lines, line: lines.indexOf(cell.parentElement), index: [...cell.parentElement.children].indexOf(cell) };
}

function moveInGrid(event) {
  const cell = event.target.closest("th, td");
  if (!cell || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" && event.target.open) return event.target.open();
  if (event.key === "Enter" && cell === event.target && cell.querySelector("a")) return cell.querySelector("a").click();
  if (event.key === "Escape") return tip.hide();
  const { lines, line, index } = gridPosition(cell);
  const last = cell.parentElement.children.length - 1;
  const moves = {
    ArrowLeft: [line, index - 1],
    ArrowRight: [line, index + 1],
    ArrowUp: [line - 1, index],
    ArrowDown: [line + 1, index],
    Home: [line, 0],
    End: [line, last],
    PageUp: [Math.max(0, line - 15), index],
    PageDown: [Math.min(lines.length - 1, line + 15), index],
  };
  const target = moves[event.key];
  if (!target) return;
  event.preventDefault();
  const next = lines[target[0]]?.children[target[1]];
  if (next) activate(next.querySelector("button") ?? next);
}

byId("more").addEventListener("click", () => {
  board.limit = Infinity;
  arrange();
  byId("status").focus();
});
function downloadBoard() {
  const columns = board.columns.slice(1).flatMap(({ title, index, value }) => {
    if (index === undefined || !hasDelta(state.view, index)) return [{ title, value }];
    return [{ title, value }, { title: `${title}: ours minus published`, value: (row) => (row[ROW.cells][index] || [])[CELL.delta] }];
  });
  const rows = shownRows().map(({ entry: { row } }) => [rowLabel(row), ...columns.map(({ value }) => value(row))]);
  download("leaderboard.csv", [[`${state.view.protocol}, layer ${layerName(state.view.layer)}, percent`], ["Model", ...columns.map(({ title }) => title)], ...rows]);
}
byId("board-download").addEventListener("click", downloadBoard);
board.box.addEventListener("keydown", moveInGrid);
board.box.addEventListener("focusin", ({ target }) => (target.explain ? tip.show(target, target.explain()) : tip.hide()));
board.box.addEventListener("focusout", () => tip.hide());
board.box.addEventListener("mouseover", ({ target }) => {
  const cell = target.closest("td");
  if (cell?.explain) tip.show(cell, cell.explain());
});
board.box.addEventListener("mouseout", () => tip.hide());
board.box.addEventListener("click", ({ target }) => {
  const cell = target.closest("td");
  if (!cell) return;
  activate(cell);
  cell.open?.();
});
board.box.addEventListener("scroll", () => tip.hide(), { passive: true });
