// The address says what is shown, so that a view can be sent as a link: what differs from how the page opens, by the names that a reader sees.
const SELECTS = ["protocol", "layer", "interval-corpus", "first", "second", "class-model", "class-corpus", "layer-model"];
const OPENED = { selects: {}, sort: "" };

const chosenText = (id) => byId(id).selectedOptions[0]?.textContent ?? "";
const chipsOfPage = () => [...document.querySelectorAll("#filters .chip")].map((label) => [label.closest("fieldset").id + " " + label.textContent, label.querySelector("input")]);

// A column of the board by its corpus, not by its place: another report may have others.
function sortName() {
  const [kind, index] = state.sort.key.split(/-(\d+)$/);
  const name = index === undefined ? kind : kind + "-" + state.view.columns[index]?.[COLUMN.key];
  return (state.sort.down ? "-" : "") + name;
}

function sortKey(name) {
  const [kind, ...rest] = name.replace(/^-/, "").split("-");
  const index = state.view.columns.findIndex((column) => column[COLUMN.key] === rest.join("-"));
  return index < 0 ? name.replace(/^-/, "") : kind + "-" + index;
}

function address() {
  const parts = new URLSearchParams();
  if (tab !== TABS[0]) parts.set("tab", tab);
  for (const id of SELECTS) if (chosenText(id) !== OPENED.selects[id]) parts.set(id, chosenText(id));
  if (state.query) parts.set("search", byId("search").value);
  for (const [name, input] of chipsOfPage()) if (!input.checked) parts.append("without", name);
  if (sortName() !== OPENED.sort) parts.set("sort", sortName());
  return parts.toString();
}

// On the Hub the page is a frame, and the address that a reader copies is that of the page around it.
function writeAddress() {
  const hash = address();
  if (location.hash.slice(1) === hash) return;
  try {
    history.replaceState(null, "", "#" + hash);
  } catch {
    return; // a frame without an address of its own
  }
  if (parent !== window && location.hostname.endsWith(".hf.space")) parent.postMessage({ hash: "#" + hash }, "https://huggingface.co");
}

function choose(id, text) {
  const option = [...byId(id).options].find((other) => other.textContent === text);
  if (!option || byId(id).value === option.value) return;
  byId(id).value = option.value;
  byId(id).dispatchEvent(new Event("change", { bubbles: true }));
}

// Works the controls as a reader would; what the report does not hold stays as it is.
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const id of SELECTS) choose(id, parts.get(id) ?? OPENED.selects[id]);
  const without = new Set(parts.getAll("without"));
  for (const [name, input] of chipsOfPage()) if (input.checked === without.has(name)) input.click();
  byId("search").value = parts.get("search") ?? "";
  byId("search").dispatchEvent(new Event("input", { bubbles: true }));
  const sort = parts.get("sort") ?? OPENED.sort;
  state.sort = { key: sortKey(sort), down: sort.startsWith("-") };
  showTab(TABS.includes(parts.get("tab")) ? parts.get("tab") : TABS[0]);
}

for (const id of SELECTS) OPENED.selects[id] = chosenText(id);
OPENED.sort = sortName();
if (location.hash.includes("=")) readAddress();
let writing;
for (const kind of ["change", "input", "click", "keydown"])
  document.addEventListener(kind, () => {
    clearTimeout(writing);
    writing = setTimeout(writeAddress, 100);
  });
addEventListener("hashchange", readAddress);
