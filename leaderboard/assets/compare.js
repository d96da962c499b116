// Chooses two systems, reads the values of their images, and shows their paired differences.
"use strict";

(async () => {
  const [choiceA, choiceB, results, trouble] = ["a", "b", "results", "trouble"].map((id) => document.getElementById(id));
  const viewer = new Viewer(document.getElementById("viewer"));
  const fail = (text) => { trouble.textContent = text; trouble.hidden = !text; };
  let known;
  try {
    known = await loadData("systems");
  } catch (bad) {
    fail("The list of systems cannot be read: " + bad.message);
    return;
  }
  const bySystem = new Map(known.systems.map((system) => [system.key, system]));
  const fullName = (system) => system.title + (system.setting ? " · " + system.setting : "");

  for (const select of [choiceA, choiceB]) {
    select.append(new Option("choose a system", ""));
    const groups = new Map();
    for (const system of known.systems) {
      if (!groups.has(system.kind)) {
        const group = element("optgroup");
        group.label = system.kind || "Other systems";
        groups.set(system.kind, group);
        select.append(group);
      }
      groups.get(system.kind).append(new Option(fullName(system), system.key));
    }
  }

  const signed = (value) => (value > 0 ? "+" : "") + numberText(value);

  // One line a metric; a button shows the images on which the two differ most.
  function lineOf(metric, found, most) {
    const line = element("tr"), head = element("th", null, "sys"), button = element("button", metric.title, "plain");
    head.scope = "row";
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => most(metric, found, button));
    head.append(button);
    if (found.pooled) head.append(element("small", "pooled: some images came back identical"));
    if (metric.unit) head.append(element("small", metric.unit));
    const counts = metric.better ? found.wins + " / " + found.ties + " / " + found.losses : "—";
    const span = found.interval ? "[" + found.interval.map(signed).join(", ") + "]" : "—";
    const cells = [found.a, found.b].map(numberText);
    cells.push(found.difference === null ? "—" : signed(found.difference), span, counts, found.n);
    line.append(head, ...cells.map((text) => element("td", text, "num")));
    const apart = found.interval && (found.interval[0] > 0 || found.interval[1] < 0);
    if (apart && metric.better) {
      const ahead = (found.difference > 0) === (metric.better === "higher") ? 1 : 2;
      line.cells[ahead].classList.add("best");
    }
    return line;
  }

  function sectionOf(question, one, two, sides) {
    const section = element("section");
    section.append(element("h2", question.task));
    section.lastChild.append(" ", element("small", question.where));
    const metrics = one.metrics.map((metric) => [metric, two.metrics.find((m) => m.name === metric.name && m.version === metric.version)]);
    const lines = [];
    const images = element("div", null, "most");
    const most = (metric, found, button) => {
      for (const other of section.querySelectorAll("button[aria-pressed]")) other.setAttribute("aria-pressed", other === button);
      images.replaceChildren(element("h3", "Images that differ most in " + metric.title), listOf(found.images.slice(0, 5), question, one, sides));
    };
    for (const [metric, other] of metrics) {
      const found = other && pairedDifference({ ...one, metric }, { ...two, metric: other });
      if (found) lines.push([lineOf(metric, found, most), metric, found]);
    }
    if (!lines.length) {
      const why = one.left_out.length ? "these runs hold more values than a page can; run vtbench compare on their folders" : "no image has a value of both";
      section.append(element("p", "Nothing to compare: " + why + ".", "how"));
      return section;
    }
    const table = element("table", null, "scores plain"), head = table.createTHead().insertRow();
    for (const text of ["Metric", "A", "B", "A − B", "95 % interval", "A better / equal / worse", "images"]) {
      const cell = element("th", text, text === "Metric" ? "sys" : "num");
      cell.scope = "col";
      head.append(cell);
    }
    table.createTBody().append(...lines.map(([line]) => line));
    const scroll = element("div", null, "scroll");
    Object.assign(scroll, { tabIndex: 0, role: "region", ariaLabel: "Differences: " + question.task + ", " + question.where });
    scroll.append(table);
    section.append(scroll);
    const more = [...new Set([...one.left_out, ...two.left_out])];
    if (more.length) section.append(element("p", "Left to vtbench compare, since a page cannot hold so many values: " + more.join(", ") + ".", "how"));
    section.append(images);
    const [line, metric, found] = lines.find(([, m]) => m.better && m.unit !== "bit/px") || lines[0];
    most(metric, found, line.querySelector("button"));
    return section;
  }

  function listOf(images, question, one, sides) {
    const list = element("ol");
    for (const { item, a, b } of images) {
      const line = element("li"), pictures = picturesOf(one.gallery, item, sides);
      line.append(element("span", item, "item"), " ", element("b", numberText(a)), " against ", element("b", numberText(b)));
      if (pictures) {
        const button = element("button", "look at both");
        button.type = "button";
        button.addEventListener("click", () => {
          line.closest("section").append(viewer.root);
          viewer.show(item, ...pictures, pictures[0].box);
          viewer.root.scrollIntoView({ block: "nearest" });
          viewer.parts.divide.focus();
        });
        line.append(" ", button);
      }
      list.append(line);
    }
    return list;
  }

  // Both pictures of an image, where both runs kept it.
  function picturesOf(gallery, item, sides) {
    const kept = sides.map(({ data, system }) => data.pictures.find((p) => p.gallery === gallery && p.item === item && p.system === system.key));
    if (!kept[0] || !kept[1] || kept[0].reference !== kept[1].reference) return null;
    return kept.map((own, i) => ({
      name: (i ? "B: " : "A: ") + fullName(sides[i].system), picture: own.candidate, original: own.reference,
      size: own.original, values: own.values, lines: own.lines, box: own.box,
    }));
  }

  let asked = 0;
  async function show() {
    const mine = ++asked, [a, b] = [bySystem.get(choiceA.value), bySystem.get(choiceB.value)];
    results.replaceChildren();
    viewer.root.hidden = true;
    fail("");
    if (!a || !b) return;
    if (a === b) return fail("Both are the same system: choose another one.");
    try {
      const sides = await Promise.all([a, b].map(async (system) => ({ system, data: await loadData(system.file) })));
      if (mine !== asked) return;
      const [ones, twos] = sides.map(({ data, system }) => data.runs.filter((run) => run.system === system.key));
      const sections = [];
      for (const question of known.questions) {
        const [one, two] = [ones, twos].map((runs) => runs.find((run) => run.question === question.key));
        if (one && two) sections.push(sectionOf(question, one, two, sides));
      }
      results.append(...sections);
      if (!sections.length) fail("These two were never run on the same images in the same task.");
      document.title = fullName(a) + " and " + fullName(b) + " · vtbench";
    } catch (bad) {
      fail("The values cannot be read: " + bad.message);
    }
  }

  function chosen() {
    keepInAddress({ a: choiceA.value, b: choiceB.value });
    show();
  }
  function fromAddress() {
    const state = stateOfAddress();
    for (const [select, key] of [[choiceA, state.a], [choiceB, state.b]]) select.value = bySystem.has(key) ? key : "";
    if ((state.a && !bySystem.has(state.a)) || (state.b && !bySystem.has(state.b))) {
      show();
      return fail("The address names a system that is not here: choose another one.");
    }
    show();
  }
  for (const select of [choiceA, choiceB]) select.addEventListener("input", chosen);
  document.getElementById("swap").addEventListener("click", () => {
    [choiceA.value, choiceB.value] = [choiceB.value, choiceA.value];
    chosen();
  });
  for (const part of document.querySelectorAll(".js-only")) part.hidden = false;
  document.getElementById("choice").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
})();
