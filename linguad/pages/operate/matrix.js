/** Who is spoken and who hears it, as a square: how many slots are free, and who waits. */

import { show, t } from "/pages/static/i18n.js";
import { el } from "./dom.js";
import { count, number, tongue } from "./format.js";

/** So many free slots are few. */
const FEW = 2;

/** A table of pairs `{ src, tgt, ready_nodes, free_slots }` and of queues `{ src, tgt, jobs }`. */
export class Matrix {
  #table = el("table", { class: "matrix numbers" });
  #empty = el("p", { class: "empty quiet", "data-t": "noPairs" });
  #drawn = "";
  element = el("div", {},
    el("div", { class: "scroll", tabindex: "0", role: "group", "data-t-label": "pairs" }, this.#table),
    this.#empty,
    el("p", { class: "legend small quiet" },
      ...["room", "tight", "full", "waiting"].map((kind) =>
        el("span", {}, el("i", { class: kind, "aria-hidden": "true" }), el("span", { "data-t": `room:${kind}` })))));

  /** Draws them, if they are others. */
  set(pairs, queues) {
    const drawn = JSON.stringify([pairs, queues.map(({ src, tgt, jobs }) => [src, tgt, jobs]), document.documentElement.lang]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const cells = new Map();
    const at = (src, tgt) => {
      const key = `${src}\n${tgt}`;
      if (!cells.has(key)) cells.set(key, { src, tgt, free_slots: 0, ready_nodes: 0, jobs: 0 });
      return cells.get(key);
    };
    for (const one of pairs) Object.assign(at(one.src, one.tgt), one);
    for (const one of queues) at(one.src, one.tgt).jobs += one.jobs;
    const all = [...cells.values()];
    const sources = [...new Set(all.map((one) => one.src))].sort();
    const targets = [...new Set(all.map((one) => one.tgt))].sort();
    this.#table.replaceChildren(
      el("thead", {}, el("tr", {},
        el("td", { class: "corner small quiet", "aria-hidden": "true", text: t("from") }),
        ...targets.map((tgt) => el("th", { scope: "col", title: tongue(tgt), text: tgt })))),
      el("tbody", {}, ...sources.map((src) => el("tr", {},
        el("th", { scope: "row", title: tongue(src), text: src === "*" ? t("anyLanguage") : src }),
        ...targets.map((tgt) => cell(cells.get(`${src}\n${tgt}`)))))));
    this.#table.hidden = !all.length;
    this.element.querySelector(".scroll").hidden = !all.length;
    this.element.querySelector(".legend").hidden = !all.length;
    this.#empty.hidden = all.length > 0;
    show(this.element);
  }
}

function cell(one) {
  if (!one) return el("td", { class: "none" });
  const { src, tgt, free_slots: free, ready_nodes: nodes, jobs } = one;
  const kind = free > FEW ? "room" : free > 0 ? "tight" : "full";
  const told = t("pairRoom", { src: tongue(src), tgt: tongue(tgt), nodes: count("nodes", nodes), free: count("slots", free), jobs: count("jobs", jobs) });
  return el("td", { class: kind, title: told, "data-pair": `${src}>${tgt}` },
    number(free), jobs ? el("span", { class: "waits", text: number(jobs) }) : "");
}
