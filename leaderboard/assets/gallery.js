// Choose an image and two systems: both under one slider. Without this file the page shows every image in turn.
"use strict";

{
  const sections = [...document.querySelectorAll("section.picture")];
  const [items, left, right] = ["item", "left", "right"].map((id) => document.getElementById(id));
  const trouble = document.getElementById("trouble");
  const viewer = new Viewer(document.getElementById("viewer"));
  const gallery = location.pathname.split("/").pop().replace(/\.html$/, "");
  const ORIGINAL = "original";

  items.replaceChildren(...sections.map((section, place) => new Option(section.dataset.item, place)));

  const systemsOf = (section) => [...section.querySelectorAll("tr[data-system]")].map((row) => row.dataset);

  function offer(section) {
    const systems = systemsOf(section);
    for (const [select, otherwise] of [[left, 0], [right, systems.length - 1]]) {
      const before = select.value;
      select.replaceChildren(new Option("Original", ORIGINAL), ...systems.map((of) => new Option(of.name, of.system)));
      select.value = before;
      if (!select.value && systems.length) select.value = systems[otherwise].system;
      // One system alone is compared with the original.
      if (systems.length === 1 && select === left && !before) select.value = ORIGINAL;
    }
  }

  async function side(section, system) {
    const item = section.dataset.item;
    const { name, file } = systemsOf(section).find((of) => of.system === system) || systemsOf(section)[0];
    const here = (await loadData(file)).pictures.filter(
      (p) => p.gallery === gallery && p.item === item && p.reference === section.dataset.reference);
    const own = here.find((p) => p.system === system) || here[0];
    const common = { original: own.reference, size: own.original, box: own.box };
    if (system === ORIGINAL) {
      const lines = own.lines.map(([read]) => [read, read, null, null]);
      return { ...common, name: "Original", picture: own.reference, values: [], lines };
    }
    return { ...common, name, picture: own.candidate, values: own.values, lines: own.lines };
  }

  let asked = 0;
  async function show() {
    const mine = ++asked, section = sections[items.value];
    sections.forEach((other) => { other.hidden = other !== section; });
    offer(section);
    keepInAddress({ image: section.dataset.item, left: left.value, right: right.value });
    try {
      const sides = await Promise.all([side(section, left.value), side(section, right.value)]);
      if (mine !== asked) return;
      viewer.show(section.dataset.item, ...sides, sides[0].box || sides[1].box);
      trouble.hidden = true;
    } catch (bad) {
      trouble.textContent = "These pictures cannot be shown: " + bad.message;
      trouble.hidden = false;
    }
  }

  function fromAddress() {
    const state = stateOfAddress();
    const place = sections.findIndex((section) => section.dataset.item === state.image);
    items.value = place < 0 ? 0 : place;
    offer(sections[items.value]);
    for (const [select, wanted] of [[left, state.left], [right, state.right]]) {
      if ([...select.options].some((option) => option.value === wanted)) select.value = wanted;
    }
    show();
  }

  if (sections.length) {
    document.getElementById("choice").hidden = false;
    document.getElementById("choice").addEventListener("submit", (event) => event.preventDefault());
    for (const select of [items, left, right]) select.addEventListener("input", show);
    window.addEventListener("hashchange", fromAddress);
    fromAddress();
  }
}
