// The data block, the names of its fields, and small helpers. Names are only ever set as text.
const DATA = JSON.parse(document.getElementById("data").textContent);
const ROW = { name: 0, id: 1, revision: 2, size: 3, audioset: 4, published: 5, parameters: 6, gflop: 7, averages: 8, meanRank: 9, rank: 10, cells: 11, page: 12, also: 13, variant: 14, layers: 15, encoder: 16 };
const CELL = { score: 0, marks: 1, delta: 2, low: 3, high: 4, stdFolds: 5, stdSeeds: 6, caveat: 7, rank: 8, clips: 9, runs: 10, majority: 11, mfcc: 12, detail: 13, shots: 14, uncertainty: 15, fewUnits: 16 };
const PAIR = { difference: 0, half: 1, p: 2, units: 3 };
const COLUMN = { key: 0, title: 1, domain: 2, metric: 3 };
const AVERAGES = ["events", "music", "speech", "all"];

const byId = (id) => document.getElementById(id);

// Make an element: attributes as given, children as nodes or as text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A name from outside, kept from reordering its neighbours whatever its script.
const bdi = (text, attributes = {}) => make("bdi", attributes, text);

const known = (value) => value !== null && value !== undefined;
const two = (value) => value.toFixed(2);
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(2);
const layerName = (layer) => (layer === -1 ? "last" : String(layer));
const metricName = (column) => (column[COLUMN.metric] === "map_macro" ? "macro mAP" : "accuracy");
const millions = (count) => (count >= 1e9 ? (count / 1e9).toFixed(2) + " B" : count >= 1e6 ? Math.round(count / 1e6) + " M" : Math.round(count / 1e3) + " k");
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const names = new Intl.Collator("en", { numeric: true });

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

// What is shown: the view (protocol and layer), and what the filters let through.
const state = {
  view: DATA.views[0],
  domains: new Set(Object.keys(DATA.domains)),
  sizes: new Set(Object.keys(DATA.sizes)),
  sources: new Set([0, 1]),
  differences: new Set(["delta"]),
  query: "",
  ownFirst: true,
  sort: { key: "rank", down: false },
};

function passes(row) {
  return (
    state.sizes.has(row[ROW.size]) &&
    state.sources.has(row[ROW.published]) &&
    (state.query === "" || (row[ROW.name] + " " + row[ROW.id]).toLowerCase().includes(state.query))
  );
}

const rowLabel = (row) => row[ROW.name] + (row[ROW.revision] ? " @ " + row[ROW.revision].slice(0, 12) : "") + (row[ROW.variant] ? ` [${row[ROW.variant]}]` : "") + (row[ROW.published] ? " (paper)" : "");

// "3.10 over 5 folds, 0.42 over 3 seeds": the two spreads of a score, never as one.
function spread(cell) {
  const [folds, seeds] = cell[CELL.runs] ?? [];
  const parts = [];
  if (known(cell[CELL.stdFolds])) parts.push(`${two(cell[CELL.stdFolds])} over ${folds ? plural(folds, "fold") : "folds"}`);
  if (known(cell[CELL.stdSeeds])) parts.push(`${two(cell[CELL.stdSeeds])} over ${seeds ? plural(seeds, "seed") : "seeds"}`);
  return parts.join(", ");
}

const shotsText = ([shots, mean, std]) => `${plural(shots, "clip")} per class: ${two(mean)} ± ${two(std)}`;

// What the paper's unknown draw alone makes of a difference.
const doubt = (cell) => (known(cell[CELL.uncertainty]) ? ` ± ${cell[CELL.uncertainty].toFixed(1)}` : "");
const isDecided = (cell) => !known(cell[CELL.uncertainty]) || Math.abs(cell[CELL.delta]) > cell[CELL.uncertainty];

// The lines of a score's tooltip.
function explain(row, column, cell) {
  const lines = [`${rowLabel(row)}, ${column[COLUMN.title]}: ${two(cell[CELL.score])}% ${metricName(column)}`];
  if (known(cell[CELL.low])) lines.push(`95% interval ${two(cell[CELL.low])} to ${two(cell[CELL.high])}`);
  if (known(cell[CELL.low]) && cell[CELL.low] === cell[CELL.high]) lines.push("The interval has no width, as all clips went alike: it holds for these clips alone");
  if (known(cell[CELL.fewUnits])) lines.push(`drawn from ${cell[CELL.fewUnits]} units alone, too few to say how far others would move the score`);
  if (row[ROW.published]) lines.push("As published; the paper states no interval");
  if (spread(cell)) lines.push(`Standard deviation ${spread(cell)}`);
  if (known(cell[CELL.delta])) lines.push(`${signed(cell[CELL.delta])}${doubt(cell)} points from the published score`);
  if (known(cell[CELL.rank])) lines.push(`Rank ${cell[CELL.rank]} in this column`);
  if (known(cell[CELL.majority])) lines.push(`Always the commonest class: ${two(cell[CELL.majority])}`);
  if (known(cell[CELL.mfcc])) lines.push(`MFCC statistics: ${two(cell[CELL.mfcc])}`);
  for (const shots of cell[CELL.shots] ?? []) lines.push(`Trained on ${shotsText(shots)} over draws`);
  if (known(cell[CELL.clips])) lines.push(`${cell[CELL.clips].toLocaleString("en")} clips`);
  if (known(cell[CELL.caveat])) lines.push(`Not ranked: ${cell[CELL.caveat]}`);
  if (known(cell[CELL.detail])) lines.push("Enter or click: its classes");
  return lines;
}

const tip = {
  box: byId("tip"),
  show(anchor, lines) {
    this.box.replaceChildren(...lines.map((line) => make("div", {}, bdi(line))));
    this.box.hidden = false;
    const at = anchor.getBoundingClientRect();
    const size = this.box.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
    const above = at.top - size.height - 8;
    this.box.style.left = left + "px";
    this.box.style.top = (above > 4 ? above : at.bottom + 8) + "px";
    this.anchor?.removeAttribute("aria-describedby");
    anchor.setAttribute("aria-describedby", "tip");
    this.anchor = anchor;
  },
  hide() {
    this.box.hidden = true;
    this.anchor?.removeAttribute("aria-describedby");
  },
};

function headCells(...titles) {
  return make("thead", { class: "single" }, make("tr", { class: "heads" }, ...titles.map((title, index) => {
    const attributes = { scope: "col", class: index ? null : "first", style: "padding:.36rem .55rem" };
    return make("th", attributes, title);
  })));
}

const empty = (text) => make("p", { class: "empty" }, text);

// Offer rows of text as a csv file. A cell that a spreadsheet would take for a formula gets an apostrophe.
function download(name, rows) {
  const quote = (value) => {
    let text = known(value) ? String(value) : "";
    if (/^\s*[=+@\t\r]/.test(text) || (/^\s*-/.test(text) && !/^-[\d.]+$/.test(text))) text = "'" + text;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const text = rows.map((row) => row.map(quote).join(",")).join("\n") + "\n";
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
