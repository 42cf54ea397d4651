"use strict";
// The table lives in memory; the page holds the first rows of what is left after filtering and sorting.
const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns, rows = data.rows;
const head = document.querySelector("#entries thead"), body = document.querySelector("#entries tbody");
const words = document.getElementById("words"), more = document.getElementById("more");
const STEP = 200;
const CHOICES = ["dataset", "device", "dtype", "input", "scope", "status"];
const place = Object.fromEntries(columns.map((column, index) => [column.key, index]));
const numeric = columns.map((column) => column.decimals !== null);
// Spelled as a person would: "miou", "params", "median"; the whole heading and the key work too.
const spelled = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "");
const searched = rows.map((row) => row.filter((v, i) => v !== null && !numeric[i]).join(" ").toLowerCase());
const state = { sort: -1, up: true, limit: STEP, picked: {}, shown: [] };
const formats = columns.map((c) => c.decimals === null ? null
  : new Intl.NumberFormat("en", { minimumFractionDigits: c.decimals, maximumFractionDigits: c.decimals }));

function written(value, index) {
  if (value === null || value === undefined) return "";
  if (value === true) return "yes";
  return formats[index] && typeof value === "number" ? formats[index].format(value / columns[index].divisor) : String(value);
}

function columnOf(word) {
  const wanted = spelled(word);
  const exact = columns.findIndex((c) => spelled(c.key) === wanted || spelled(c.heading) === wanted);
  return exact >= 0 ? exact : columns.findIndex((c, i) => numeric[i] && spelled(c.heading).startsWith(wanted));
}

function tests() {
  return words.value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const comparison = word.match(/^([^<>=]+)(<=|>=|<|>|=)(-?[\d.]+)$/);
    const index = comparison ? columnOf(comparison[1]) : -1;
    if (index < 0) return (row, text) => text.includes(word);
    const bound = Number(comparison[3]) * columns[index].divisor, sign = comparison[2];
    return (row) => row[index] !== null && (
      sign === "<" ? row[index] < bound : sign === ">" ? row[index] > bound :
      sign === "<=" ? row[index] <= bound : sign === ">=" ? row[index] >= bound : row[index] === bound);
  });
}

function compare(one, other) {
  const a = one[state.sort], b = other[state.sort];
  // What is not known stands last in both directions.
  if (a === null || b === null) return (a === null) - (b === null);
  const order = numeric[state.sort] ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return state.up ? order : -order;
}

function refresh() {
  const all = tests(), picked = Object.entries(state.picked).filter(([, value]) => value !== "");
  state.shown = rows.filter((row, i) =>
    all.every((test) => test(row, searched[i])) && picked.every(([index, value]) => String(row[index] ?? "") === value));
  if (state.sort >= 0) state.shown.sort(compare);
  document.getElementById("count").textContent = `${state.shown.length} of ${rows.length} rows`;
  draw();
}

function draw() {
  const lines = state.shown.slice(0, state.limit).map((row, number) => {
    const line = document.createElement("tr");
    line.tabIndex = 0;
    line.dataset.number = number;
    columns.forEach((column, index) => {
      const cell = line.insertCell();
      const notes = index === 0 && row[columns.length].length ? " *" : "";
      cell.textContent = written(row[index], index) + notes;
      if (numeric[index]) cell.className = "number";
    });
    return line;
  });
  body.replaceChildren(...lines);
  const left = state.shown.length - lines.length;
  more.hidden = left <= 0;
  more.textContent = `Show ${Math.min(left, STEP)} more of ${left}`;
}

function sortBy(index) {
  state.up = state.sort === index ? !state.up : true;
  state.sort = index;
  [...head.rows[0].cells].forEach((cell, i) => {
    if (i === index) cell.setAttribute("aria-sort", state.up ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
  state.limit = STEP;
  refresh();
}

function details(row) {
  const table = document.createElement("table");
  columns.forEach((column, index) => {
    if (row[index] === null) return;
    const line = table.insertRow();
    line.insertCell().textContent = column.heading;
    line.insertCell().textContent = written(row[index], index);
  });
  for (const note of row[columns.length]) {
    const line = table.insertRow();
    line.insertCell().textContent = "note";
    line.insertCell().textContent = note;
  }
  const dialog = document.getElementById("details");
  dialog.querySelector("div").replaceChildren(table);
  dialog.showModal();
}

function build() {
  const line = head.insertRow();
  columns.forEach((column, index) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    button.type = "button";
    button.textContent = column.heading;
    button.title = column.hint;
    button.addEventListener("click", () => sortBy(index));
    cell.scope = "col";
    if (numeric[index]) cell.className = "number";
    cell.append(button);
    line.append(cell);
  });
  for (const key of CHOICES.filter((key) => key in place)) {
    const values = [...new Set(rows.map((row) => row[place[key]]))].filter((value) => value !== null).sort();
    if (values.length < 2) continue;
    const label = document.createElement("label"), select = document.createElement("select");
    select.add(new Option("all", ""));
    values.forEach((value) => select.add(new Option(value, value)));
    select.addEventListener("change", () => { state.picked[place[key]] = select.value; state.limit = STEP; refresh(); });
    label.append(columns[place[key]].heading, " ", select);
    document.getElementById("choices").append(label);
  }
  words.addEventListener("input", () => { state.limit = STEP; refresh(); });
  more.addEventListener("click", () => { state.limit += STEP; draw(); });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !String(getSelection())) details(state.shown[row.dataset.number]);
  });
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter") details(state.shown[event.target.dataset.number]);
  });
  refresh();
}

build();
