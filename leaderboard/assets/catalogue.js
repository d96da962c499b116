// The page is whole without this file. It adds filters, and keeps them in the address: words are sought in every table,
// the others are of models.
"use strict";

const form = document.getElementById("catalogue");
const shelves = [...document.querySelectorAll("#cards > tbody")];
const cards = [...document.querySelectorAll("#cards tr[id]")];
const claims = new Map([...document.querySelectorAll("#claims > tbody")].map((body) => [body.dataset.of, body]));
const others = [...document.querySelectorAll(".catalogue:not(#cards):not(#claims) > tbody > tr")];
for (const row of others) row.words = row.textContent.toLowerCase();

/** Flags are data attributes of a row: data-disputed, data-bare, data-claims. */
function show() {
  const words = form.elements.find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = form.elements.kind.value;
  const flags = [...form.elements].filter((field) => field.checked).map((field) => field.name);
  let shown = 0;
  for (const row of cards) {
    const fits =
      words.every((word) => row.dataset.find.includes(word)) &&
      (!kind || row.dataset.kind === kind) &&
      flags.every((flag) => flag in row.dataset);
    row.hidden = !fits;
    const own = row.nextElementSibling; // its own sources, where it has some
    if (own && own.classList.contains("own")) own.hidden = !fits;
    const numbers = claims.get(row.id);
    if (numbers) numbers.hidden = !fits;
    shown += fits;
  }
  for (const shelf of shelves) shelf.hidden = [...shelf.rows].every((row) => !row.id || row.hidden);
  for (const row of others) row.hidden = !words.every((word) => row.words.includes(word));
  form.querySelector(".shown").textContent = `${shown} of ${cards.length} shown`;
  document.querySelector(".nothing").hidden = shown > 0;
}

function keep() {
  const state = new URLSearchParams();
  for (const field of form.elements) {
    if (field.type === "checkbox" ? field.checked : field.value) state.set(field.name, field.value);
  }
  const after = state.toString();
  try {
    history.replaceState(null, "", after ? "#" + after : location.pathname + location.search);
  } catch {
    if (after) location.replace("#" + after); // some browsers keep no history for files
  }
}

function read() {
  const after = location.hash.slice(1);
  const state = new URLSearchParams(after.includes("=") ? after : "");
  for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = state.has(field.name);
    else field.value = state.get(field.name) || "";
    if (field.selectedIndex === -1) field.selectedIndex = 0;
  }
  show();
}

if (form) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    show();
    keep();
  });
  window.addEventListener("hashchange", read);
  read();
}
