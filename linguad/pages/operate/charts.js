/** Pictures of numbers, drawn as SVG. Each says in words what it shows; hostile names are text here, too. */

import { el, say, svg } from "./dom.js";

/** A small line of the last values, without axes; the number beside it says what counts. */
export class Spark {
  #line = svg("path", { class: "line" });
  #area = svg("path", { class: "area" });
  element = svg("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    this.#area, this.#line);

  /** Draws values, the oldest first. */
  set(values) {
    const most = Math.max(...values, 1e-9);
    this.element.classList.toggle("flat", !values.some(Boolean));
    const step = values.length > 1 ? 100 / (values.length - 1) : 0;
    const points = values.map((value, index) => `${round(index * step)} ${round(26 - (24 * value) / most)}`);
    this.#line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
    this.#area.setAttribute("d", points.length > 1 ? `M${points.join("L")}L100 28L0 28Z` : "");
  }
}

const WIDE = 720, HIGH = 220;
const LEFT = 46, RIGHT = 8, TOP = 18, BOTTOM = 24;

/** Lines over time with axes; a pointer or the arrow keys read single values. */
export class LineChart {
  #plot = svg("g");
  #cross = svg("line", { class: "cross", y1: TOP, y2: HIGH - BOTTOM, visibility: "hidden" });
  #readout = el("p", { class: "readout small numbers", "aria-live": "polite" });
  #picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", tabindex: "0" }, this.#plot, this.#cross);
  #data = null;
  #at = -1;
  element = el("div", { class: "line-chart" }, this.#picture, this.#readout);

  constructor() {
    this.#picture.addEventListener("pointermove", (event) => {
      const box = this.#picture.getBoundingClientRect();
      this.#read(((event.clientX - box.left) / box.width) * WIDE);
    });
    this.#picture.addEventListener("pointerleave", () => this.#point(-1));
    this.#picture.addEventListener("blur", () => this.#point(-1));
    this.#picture.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1 };
      if (!(event.key in steps) || !this.#data) return;
      event.preventDefault();
      const last = this.#data.times.length - 1;
      const from = this.#at < 0 ? last + 1 : this.#at;
      this.#point(Math.min(last, Math.max(0, from + steps[event.key])));
    });
  }

  /**
   * Draws `{ label, times, series, number, clock }`: `series` are `{ name, values }`, one value for each time; the others
   * say values and times.
   */
  set(data) {
    this.#data = data;
    this.#picture.setAttribute("aria-label", data.label);
    const most = nice(Math.max(1, ...data.series.flatMap((one) => one.values)));
    const y = (value) => round(HIGH - BOTTOM - ((HIGH - BOTTOM - TOP) * value) / most);
    const grid = [0, 0.5, 1].flatMap((part) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: y(part * most), y2: y(part * most) }),
      svg("text", { class: "tick", x: LEFT - 8, y: y(part * most) + 4, "text-anchor": "end" }, data.number(part * most)),
    ]);
    const last = data.times.length - 1;
    const places = last > 0 ? new Set([0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(part * last))) : [];
    const marks = [...places].map((index) => {
      const anchor = index === 0 ? "start" : index === last ? "end" : "middle";
      return svg("text", { class: "tick", x: this.#x(index), y: HIGH - 6, "text-anchor": anchor }, data.clock(data.times[index]));
    });
    const lines = data.series.map((one, index) => svg("path", {
      class: `line s${index}`, d: one.values.length > 1 ? `M${one.values.map((value, at) => `${this.#x(at)} ${y(value)}`).join("L")}` : "",
    }));
    this.#plot.replaceChildren(...grid, ...marks, ...lines);
    this.#point(this.#at <= last ? this.#at : -1);
  }

  #x(index) {
    const last = Math.max(1, this.#data.times.length - 1);
    return round(LEFT + ((WIDE - LEFT - RIGHT) * index) / last);
  }

  #read(x) {
    if (!this.#data?.times.length) return;
    const last = this.#data.times.length - 1;
    const index = Math.round(((x - LEFT) / (WIDE - LEFT - RIGHT)) * last);
    this.#point(Math.min(last, Math.max(0, index)));
  }

  #point(index) {
    this.#at = index;
    const data = this.#data;
    this.#cross.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (!data?.times.length) {
      this.#readout.textContent = "";
      return;
    }
    const at = index < 0 ? data.times.length - 1 : index;
    this.#cross.setAttribute("x1", this.#x(at));
    this.#cross.setAttribute("x2", this.#x(at));
    this.#readout.replaceChildren(
      el("time", { class: "quiet", text: data.clock(data.times[at]) }),
      ...data.series.map((one, number) =>
        el("span", { class: `key s${number}` }, `${one.name} `, el("b", { text: data.number(one.values[at]) }))));
  }
}

/** Bars one below the other: `{ name, value, text, kind? }`, the longest is full. */
export class Bars {
  #rows = new Map();
  element = el("ul", { class: "bars" });

  /** Draws them in this order. */
  set(bars, full = Math.max(...bars.map((one) => one.value), 1e-9)) {
    const before = this.#rows;
    this.#rows = new Map();
    for (const one of bars) {
      const row = before.get(one.name) ?? bar();
      say(row.name, one.name);
      say(row.text, one.text);
      row.fill.style.width = `${Math.min(100, (100 * one.value) / full)}%`;
      row.fill.className = one.kind ?? "";
      row.fill.hidden = !one.value;
      this.#rows.set(one.name, row);
    }
    const wanted = [...this.#rows.values()].map((row) => row.element);
    if (wanted.length !== this.element.children.length || wanted.some((one, at) => this.element.children[at] !== one)) {
      this.element.replaceChildren(...wanted);
    }
  }
}

function bar() {
  const name = el("span"), text = el("b", { class: "numbers" }), full = el("i");
  return { name, text, fill: full, element: el("li", {}, name, text, el("span", { class: "track", "aria-hidden": "true" }, full)) };
}

/** Parts of a whole in a row: `{ name, value, stage }`, widths by their values. */
export function stacked(parts) {
  return el("div", { class: "stacked", "aria-hidden": "true" }, ...parts.filter((one) => one.value > 0).map((one) => {
    const element = el("i", { "data-stage": one.stage, title: one.name });
    element.style.flexGrow = String(one.value);
    return element;
  }));
}

/** The next number above that is easy to read. */
export function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function round(value) { return Math.round(value * 100) / 100; }
