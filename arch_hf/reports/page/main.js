// The controls: tabs, filters, the colour scheme.
const TABS = ["board", "intervals", "compare", "classes", "layers"];
const DRAW = { board: drawBoard, intervals: drawIntervals, compare: drawCompare, classes: drawClasses, layers: drawLayers };
const FILTERS = {
  "field-layer": ["board", "intervals", "compare", "classes"],
  "field-protocol": ["board", "intervals", "compare", "classes"],
  domains: ["board", "layers"],
  sizes: ["board", "intervals"],
  sources: ["board", "intervals"],
  order: ["board", "intervals"],
  extras: ["board"],
  "field-search": ["board", "intervals"],
};
let tab = "board";

function showTab(name) {
  tab = name;
  for (const other of TABS) {
    const button = byId("tab-" + other);
    button.setAttribute("aria-selected", other === name);
    button.tabIndex = other === name ? 0 : -1;
    byId("panel-" + other).hidden = other !== name;
  }
  // Only the filters that do something here.
  for (const [id, tabs] of Object.entries(FILTERS)) byId(id).classList.toggle("idle", !tabs.includes(name));
  byId("tab-" + name).scrollIntoView({ block: "nearest", inline: "nearest" });
  tip.hide();
  DRAW[name]();
}

byId("tabs").addEventListener("click", ({ target }) => target.id && target.role !== "tablist" && showTab(target.id.slice(4)));
byId("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const name = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
  showTab(name);
  byId("tab-" + name).focus();
});

// Chips: one check box per choice; the set in `state` follows them.
function chips(box, choices, chosen, changed) {
  for (const [value, text] of choices) {
    const input = make("input", { type: "checkbox", checked: true });
    input.addEventListener("change", () => {
      if (input.checked) chosen.add(value);
      else chosen.delete(value);
      changed();
    });
    box.append(make("label", { class: "chip" }, input, make("span", {}, text)));
  }
}

function viewChanged() {
  const layers = DATA.views.filter((view) => view.protocol === state.view.protocol).map((view) => [view.layer, layerName(view.layer)]);
  fillSelect(byId("protocol"), [...new Set(DATA.views.map((view) => view.protocol))].map((name) => [name, name]), state.view.protocol);
  fillSelect(byId("layer"), layers, state.view.layer);
  const corpora = state.view.columns.map((column, index) => [index, column[COLUMN.title]]).filter(([index]) => state.view.rows.some((row) => row[ROW.cells][index]));
  fillSelect(byId("interval-corpus"), corpora, byId("interval-corpus").value);
  fillClassModels();
  fillCompared();
  DRAW[tab]();
}

function start() {
  const everything = DATA.views.flatMap((view) => view.rows);
  const domains = new Set(DATA.views.flatMap((view) => view.columns.map((column) => column[COLUMN.domain])));
  const sizes = new Set(everything.map((row) => row[ROW.size]));
  const sources = new Set(everything.map((row) => row[ROW.published]));
  const filtered = () => (tab === "board" ? arrange() : DRAW[tab]());
  chips(byId("domains"), Object.entries(DATA.domains).filter(([key]) => domains.has(key)), state.domains, () => {
    fillLayers();
    DRAW[tab]();
  });
  chips(byId("sizes"), Object.entries(DATA.sizes).filter(([key]) => sizes.has(key)), state.sizes, filtered);
  chips(byId("order"), [["own", "Evaluated first"]], { add: () => (state.ownFirst = true), delete: () => (state.ownFirst = false) }, filtered);
  byId("order").hidden = sources.size < 2;
  chips(byId("sources"), [[0, "Evaluated"], [1, "Paper"]].filter(([key]) => sources.has(key)), state.sources, filtered);
  byId("extras").hidden = !DATA.views.some((view) => view.columns.some((column, index) => hasDelta(view, index)));
  chips(byId("extras"), [["delta", "Δ to the paper"]], state.differences, () => DRAW[tab]());
  byId("fold").open = !matchMedia("(max-width: 720px)").matches;
  const own = new Set(everything.filter((row) => !row[ROW.published]).map((row) => row[ROW.encoder]));
  byId("counts").textContent = `${plural(own.size, "model")} evaluated here, beside the ${everything.filter((row) => row[ROW.published]).length} of the paper.`;
  byId("protocol").addEventListener("change", ({ target }) => {
    const views = DATA.views.filter((view) => view.protocol === target.value);
    state.view = views.find((view) => view.layer === state.view.layer) ?? views[0];
    viewChanged();
  });
  byId("layer").addEventListener("change", ({ target }) => {
    state.view = DATA.views.find((view) => view.protocol === state.view.protocol && String(view.layer) === target.value);
    viewChanged();
  });
  byId("search").addEventListener("input", ({ target }) => {
    state.query = target.value.trim().toLowerCase();
    filtered();
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("interval-corpus").addEventListener("change", drawIntervals);
  byId("class-model").addEventListener("change", () => {
    fillClassCorpora(byId("class-corpus").value);
    drawClasses();
  });
  byId("class-corpus").addEventListener("change", drawClasses);
  fillLayers();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (tab === "layers" && innerWidth !== width) drawLayers();
    width = innerWidth;
  });
  byId("layer-model").addEventListener("change", drawLayers);
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  viewChanged();
}

start();
