// The page is whole without this file. It adds: sorting, finding a system, holding a picture to see its original.
"use strict";

for (const table of document.querySelectorAll("table.scores:not(.plain)")) {
  const head = table.tHead && table.tHead.rows[0];
  const body = table.tBodies[0];
  if (!head || !body || body.rows.length < 2) continue;
  const first = [...body.rows]; // with the lines that head the bands of rate, which only stand in the first order
  const systems = first.filter((row) => !row.classList.contains("band"));
  [...head.cells].forEach((cell, column) => {
    if (column && !cell.classList.contains("num")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = "↕";
    button.setAttribute("aria-label", "Sort by " + cell.innerText.split("\n")[0]);
    const title = cell.querySelector(".m");
    if (title) title.after(button);
    else cell.append(button);
    button.addEventListener("click", () => {
      const before = cell.getAttribute("aria-sort");
      const order = before === "descending" ? "ascending" : before === "ascending" ? null : "descending";
      for (const other of head.cells) {
        other.removeAttribute("aria-sort");
        const mark = other.querySelector(".sort");
        if (mark) mark.textContent = "↕";
      }
      const rows = order ? [...systems] : first;
      if (order) {
        cell.setAttribute("aria-sort", order);
        button.textContent = order === "descending" ? "↓" : "↑";
        const up = order === "ascending" ? 1 : -1;
        const value = (row) => (column ? parseFloat(row.cells[column].dataset.v) : row.cells[0].innerText);
        rows.sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (!column) return up * String(x).localeCompare(String(y));
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // nulls stay last
          return x === y ? 0 : up * (x - y); // lossless is infinite
        });
      }
      body.replaceChildren(...rows);
    });
  });
}

const find = document.getElementById("find");
if (find) {
  find.closest(".tools").hidden = false;
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.querySelectorAll("tr[data-find]")) {
      const text = row.dataset.find.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

for (const note of document.querySelectorAll(".js-only")) note.hidden = false;
for (const image of document.querySelectorAll("img[data-original]")) {
  const own = image.getAttribute("src");
  const show = (original) => {
    image.src = original ? image.dataset.original : own;
    image.classList.toggle("held", original);
  };
  image.tabIndex = 0;
  image.addEventListener("pointerdown", () => show(true));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) image.addEventListener(end, () => show(false));
  image.addEventListener("keydown", (event) => { if (event.key === "Enter") show(true); });
  image.addEventListener("keyup", () => show(false));
  image.addEventListener("contextmenu", (event) => event.preventDefault());
  image.draggable = false;
}
