// Two pictures of one original under a slider, a crop that follows the pointer, what was measured and read of them.
// Data travels in scripts of this site, since fetch() does not work from disk. Text is only ever set as text.
"use strict";

const siteRoot = new URL("..", document.currentScript.src);

// The data that `data/NAME.js` puts under its name; the file is asked for once.
const dataScripts = new Map();
function loadData(name) {
  if (!dataScripts.has(name)) {
    dataScripts.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("data/" + name + ".js", siteRoot).href;
      script.addEventListener("load", () => resolve(window.vtbenchData[name]));
      script.addEventListener("error", () => reject(new Error("data/" + name + ".js could not be read")));
      document.head.append(script);
    }));
  }
  return dataScripts.get(name);
}

// What stands in the address after #, by name.
function stateOfAddress() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}
function keepInAddress(state) {
  history.replaceState(null, "", "#" + new URLSearchParams(state));
}

function element(tag, text, className) {
  const part = document.createElement(tag);
  if (text !== undefined && text !== null) part.textContent = text;
  if (className) part.className = className;
  return part;
}

// As the pages write numbers: about four digits, a real minus sign.
function numberText(value) {
  if (value === null || value === undefined) return "—";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size > 1e-9 && size < 0.00005) return value.toExponential(1).replace(/-/g, "−");
  const digits = size >= 1000 ? 0 : size >= 10 ? 2 : size >= 1.05 ? 3 : 4;
  const [whole, rest] = value.toFixed(digits).split(".");
  return (whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") + (rest ? "." + rest : "")).replace("-", "−");
}

// side: {name, picture, original, size: [width, height], values: [[title, unit, value, better]], lines}
class Viewer {
  constructor(root) {
    this.root = root;
    this.parts = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
    const { stage, frames, divide, mode, zoom } = this.parts;
    for (const input of [divide, mode, zoom, this.parts["crop-zoom"]]) input.addEventListener("input", () => this.draw());
    const follow = (event) => {
      const box = frames.getBoundingClientRect();
      this.moveTo((event.clientX - box.left) / this.zoom, (event.clientY - box.top) / this.zoom);
    };
    frames.addEventListener("pointermove", follow);
    frames.addEventListener("pointerdown", follow);
    stage.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
      if (!step || !this.size) return;
      event.preventDefault();
      this.moveTo(this.x + step[0], this.y + step[1]);
    });
  }

  get zoom() { return Number(this.parts.zoom.value); }

  show(item, left, right, box) {
    const parts = this.parts;
    this.size = left.size;
    for (const [which, side] of [["left", left], ["right", right]]) {
      parts[which + "-name"].textContent = parts[which + "-head"].textContent = side.name;
      parts["crop-" + which + "-name"].textContent = parts[which + "-read"].textContent = side.name;
      this.picture(parts[which + "-picture"], side.picture, side.name + ": " + item);
      this.picture(parts[which + "-original"], side.original, "");
      this.picture(parts["crop-" + which].firstElementChild, side.picture, "");
      this.link("crop-" + which, side.picture);
    }
    this.picture(parts["crop-original"].firstElementChild, left.original, "");
    this.link("crop-original", left.original);
    parts.size.textContent = this.size[0] + " × " + this.size[1] + " pixels";
    this.numbers(left, right);
    this.readings(left, right);
    this.root.hidden = false;
    if (!this.drawn) {
      // Small pictures twice as large where there is room.
      const room = this.root.clientWidth - 640;
      this.parts.zoom.value = this.size[0] <= 256 && this.size[0] * 2 <= room ? 2 : 1;
      this.drawn = true;
    }
    const [x, y] = box ? [box[0] + box[2] / 2, box[1] + box[2] / 2] : [this.size[0] / 2, this.size[1] / 2];
    this.moveTo(x, y);
    this.draw();
  }

  picture(image, href, words) {
    image.src = new URL(href, siteRoot).href;
    image.alt = words;
  }

  link(name, href) {
    const link = this.parts[name + "-link"];
    link.href = new URL(href, siteRoot).href;
    link.hidden = false;
  }

  // In pixels of the picture.
  moveTo(x, y) {
    this.x = Math.round(Math.min(Math.max(x, 0), this.size[0]));
    this.y = Math.round(Math.min(Math.max(y, 0), this.size[1]));
    this.crop();
  }

  draw() {
    const { frames, divide, cut, mode, right } = this.parts;
    frames.style.width = this.size[0] * this.zoom + "px";
    frames.style.height = this.size[1] * this.zoom + "px";
    frames.classList.toggle("errors", mode.value === "errors");
    right.style.clipPath = "inset(0 0 0 " + divide.value + "%)";
    cut.style.left = divide.value + "%";
    divide.setAttribute("aria-valuetext", divide.value + " % " + this.parts["left-name"].textContent);
    this.crop();
  }

  crop() {
    const scale = Number(this.parts["crop-zoom"].value);
    for (const name of ["crop-original", "crop-left", "crop-right"]) {
      const frame = this.parts[name], image = frame.firstElementChild;
      image.style.width = this.size[0] * scale + "px";
      image.style.height = this.size[1] * scale + "px";
      image.style.left = Math.round(frame.clientWidth / 2 - this.x * scale) + "px";
      image.style.top = Math.round(frame.clientHeight / 2 - this.y * scale) + "px";
    }
    const side = this.parts["crop-left"].clientWidth / scale, spot = this.parts.spot.style;
    spot.width = spot.height = side * this.zoom + "px";
    spot.left = (this.x - side / 2) * this.zoom + "px";
    spot.top = (this.y - side / 2) * this.zoom + "px";
    this.parts.at.textContent = "(" + this.x + ", " + this.y + ")";
  }

  numbers(left, right) {
    const rows = new Map();
    for (const [place, side] of [left, right].entries()) {
      for (const [title, unit, value, better] of side.values) {
        if (!rows.has(title)) rows.set(title, { unit, better, of: [null, null] });
        rows.get(title).of[place] = value;
      }
    }
    this.parts.numbers.replaceChildren(...[...rows].map(([title, { unit, better, of }]) => {
      const line = element("tr"), head = element("th", title + (unit ? " (" + unit + ")" : ""), "sys");
      head.scope = "row";
      line.append(head);
      for (const [place, value] of of.entries()) {
        const cell = element("td", numberText(value), "num"), other = of[1 - place];
        // An image that came back identical has no PSNR: there is none better.
        const [own, theirs] = [value, other].map((v) => (v === "lossless" ? Infinity : v));
        if (better && own !== null && theirs !== null && (better === "higher" ? own > theirs : own < theirs)) cell.classList.add("best");
        line.append(cell);
      }
      return line;
    }));
  }

  readings(left, right) {
    const count = Math.max(left.lines.length, right.lines.length);
    this.parts.readings.hidden = !count;
    this.parts.lines.replaceChildren(...Array.from({ length: count }, (_, place) => {
      const line = element("tr"), sides = [left.lines[place], right.lines[place]];
      line.append(element("td", (sides[0] || sides[1])[0]));
      for (const side of sides) {
        const cell = element("td", side ? side[1] || "nothing" : "—");
        if (side && side[2] !== null && side[3]) cell.append(element("small", side[2] + " of " + side[3] + " characters"));
        line.append(cell);
      }
      return line;
    }));
  }
}
