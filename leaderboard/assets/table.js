// The page is whole without this file. It adds: sorting, filters, columns, pins; and keeps them in the address.
"use strict";

const PINS = 8;
const text = (element) => (element ? element.textContent.trim() : "");

/** What the address says: {key: value}, empty where it only names a place on the page. */
function stated() {
  const after = location.hash.slice(1);
  return after.includes("=") ? new URLSearchParams(after) : new URLSearchParams();
}

function keep(state) {
  const after = state.toString();
  const address = after ? "#" + after : location.pathname + location.search;
  try {
    history.replaceState(null, "", address);
  } catch {
    location.replace("#" + after); // some browsers keep no history for files
  }
  for (const link of document.querySelectorAll("a[data-carry]")) {
    link.hash = after;
  }
}

class Table {
  constructor(form) {
    this.form = form;
    this.prefix = form.dataset.prefix || "";
    this.table = document.getElementById(form.dataset.table);
    this.body = this.table.tBodies[0];
    this.rows = [...this.body.rows];
    this.heads = [...this.table.tHead.rows[0].cells];
    this.places = new Map(this.heads.map((head, place) => [head.dataset.c, place]));
    this.sort = "";
    this.pins = [];
    for (const row of this.rows) row.words = (text(row.cells[0]) + " " + text(row.cells[2])).toLowerCase();
    this.heads.forEach((head) => this.addSort(head));
    if (form.dataset.pins !== undefined) this.rows.forEach((row) => this.addPin(row));
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.changed());
    form.addEventListener("click", (event) => {
      if (event.target.name === "clear") {
        for (const field of this.fields()) field.type === "checkbox" ? (field.checked = false) : (field.value = "");
        this.changed();
      }
    });
    this.read();
    window.addEventListener("hashchange", () => this.read());
  }

  fields() {
    return [...this.form.elements].filter((field) => field.name && !["c", "clear", ""].includes(field.name));
  }

  columns() {
    return [...this.form.elements].filter((field) => field.name === "c");
  }

  addSort(head) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = "↕";
    button.setAttribute("aria-label", "Sort by " + text(head.querySelector(".m")));
    head.querySelector(".m").after(button);
    button.addEventListener("click", () => {
      const first = head.dataset.b === "higher" ? "-" : "+";
      const [key, way] = [this.sort.slice(1), this.sort[0]];
      const other = first === "+" ? "-" : "+";
      this.sort = key !== head.dataset.c ? first + head.dataset.c : way === first ? other + key : "";
      this.changed();
    });
  }

  addPin(row) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "pin";
    button.tabIndex = -1; // the P key on the system's link does the same
    button.setAttribute("aria-label", "Pin " + text(row.querySelector("a")) + " in the plot");
    row.cells[0].prepend(button);
    const turn = () => {
      this.pins = this.pins.includes(row.id) ? this.pins.filter((id) => id !== row.id) : [...this.pins, row.id].slice(-PINS);
      this.changed();
    };
    button.addEventListener("click", turn);
    row.cells[0].addEventListener("keydown", (event) => {
      if (event.key === "p" || event.key === "P") turn();
    });
  }

  /** From the address to the page. */
  read() {
    const state = stated();
    const of = (name) => state.get(this.prefix + name) || "";
    for (const field of this.fields()) {
      if (field.type === "checkbox") field.checked = of(field.name) === "1";
      else field.value = of(field.name);
      if (field.selectedIndex === -1) field.selectedIndex = 0;
    }
    const chosen = of("columns");
    for (const box of this.columns()) box.checked = chosen ? chosen.split(",").includes(box.value) : box.defaultChecked;
    this.sort = this.places.has(of("sort").slice(1)) ? of("sort") : "";
    this.pins = of("pin").split(",").filter((id) => this.rows.some((row) => row.id === id)).slice(0, PINS);
    this.show();
    if (state.size) keep(state);
  }

  /** From the controls to the address and the page. */
  changed() {
    const state = stated();
    const put = (name, value) => (value ? state.set(this.prefix + name, value) : state.delete(this.prefix + name));
    for (const field of this.fields()) put(field.name, field.type === "checkbox" ? (field.checked ? "1" : "") : field.value);
    const boxes = this.columns();
    const usual = boxes.every((box) => box.checked === box.defaultChecked);
    put("columns", usual ? "" : boxes.filter((box) => box.checked).map((box) => box.value).join(",") || "none");
    put("sort", this.sort);
    put("pin", this.pins.join(","));
    keep(state);
    this.show();
  }

  show() {
    this.order();
    this.filter();
    for (const box of this.columns()) this.column(box.value, box.checked);
    const metric = this.form.elements.m;
    if (metric) {
      const chosen = metric.options[metric.selectedIndex].dataset.m;
      for (const choice of document.querySelectorAll(".choice")) choice.hidden = choice.dataset.m !== chosen;
    }
    this.mark(); // last: a name needs a plot that is drawn
  }

  order() {
    const [way, key] = [this.sort[0], this.sort.slice(1)];
    for (const head of this.heads) {
      const here = key && head.dataset.c === key;
      if (here) head.setAttribute("aria-sort", way === "+" ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
      head.querySelector(".sort").textContent = here ? (way === "+" ? "▲" : "▼") : "↕";
    }
    this.table.classList.toggle("sorted", Boolean(key));
    const rows = [...this.rows];
    if (key) {
      const place = this.places.get(key);
      const numeric = Boolean(this.heads[place].dataset.b);
      const value = (row) => {
        const cell = row.cells[place];
        return numeric ? parseFloat(cell.dataset.v ?? cell.textContent) : text(cell);
      };
      const up = way === "+" ? 1 : -1;
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!numeric) return (!x - !y) || up * x.localeCompare(y, "en", { numeric: true });
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // what is missing stays last
        return x === y ? 0 : up * (x - y); // lossless is infinite
      });
    }
    this.body.replaceChildren(...rows);
  }

  filter() {
    const field = (name) => this.form.elements[name];
    const words = (field("q") ? field("q").value : "").toLowerCase().split(/\s+/).filter(Boolean);
    const [kind, band] = ["kind", "band"].map((name) => (field(name) ? field(name).value : ""));
    const ranked = field("ranked") && field("ranked").checked;
    let shown = 0;
    for (const row of this.rows) {
      const fits = (!kind || row.dataset.k === kind) && (!band || row.dataset.n === band)
        && (!ranked || "r" in row.dataset) && words.every((word) => row.words.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    const head = this.sort && this.heads[this.places.get(this.sort.slice(1))];
    const up = this.sort[0] === "+";
    const how = head ? `, sorted by ${text(head.querySelector(".m"))}, ${head.dataset.b ? (up ? "lowest" : "highest") : up ? "A" : "Z"} first` : "";
    this.form.querySelector("output").textContent = `${shown} of ${this.rows.length} shown${how}`;
    this.form.querySelector(".none").hidden = shown > 0;
  }

  column(key, shown) {
    const place = this.places.get(key);
    if (this.heads[place].hidden === !shown) return;
    this.heads[place].hidden = !shown;
    for (const row of this.rows) row.cells[place].hidden = !shown;
  }

  /** Pinned systems in the table, and they and what is filtered out in the plots. */
  mark() {
    const hidden = new Set(this.rows.filter((row) => row.hidden).map((row) => row.id));
    for (const row of this.rows) row.classList.toggle("pinned", this.pins.includes(row.id));
    for (const plot of document.querySelectorAll("svg.plot")) {
      plot.querySelectorAll(".name.mine").forEach((name) => name.remove());
      for (const dot of plot.querySelectorAll("[data-p]")) {
        const id = dot.dataset.p;
        const pinned = this.pins.includes(id);
        dot.classList.toggle("off", hidden.has(id));
        dot.classList.toggle("pinned", pinned);
        if (pinned && plot.getBoundingClientRect().width) this.name(plot, dot, id);
      }
    }
  }

  name(plot, dot, id) {
    const box = dot.getBBox();
    const name = document.createElementNS("http://www.w3.org/2000/svg", "text");
    const late = box.x > plot.viewBox.baseVal.width * 0.75;
    name.setAttribute("class", "name mine");
    name.setAttribute("x", late ? box.x - 4 : box.x + box.width + 4);
    name.setAttribute("y", box.y + box.height / 2 + 4);
    name.setAttribute("text-anchor", late ? "end" : "start");
    const row = document.getElementById(id);
    name.textContent = [text(row.querySelector("a")), text(row.querySelector("th small:not(.why)"))].join(" ").slice(0, 40);
    plot.append(name);
  }
}

for (const form of document.querySelectorAll("form.controls")) new Table(form);

for (const note of document.querySelectorAll(".js-only")) note.hidden = false;
