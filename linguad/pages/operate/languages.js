/** Which pairs are served with how much room, and which languages people use. */

import { onLanguage } from "/pages/static/i18n.js";
import { Bars } from "./charts.js";
import { el, section } from "./dom.js";
import { number, tongue } from "./format.js";
import { Matrix } from "./matrix.js";
import { follow, overview } from "./news.js";
import { asking } from "./part.js";
import { Table } from "./table.js";

/** Fills the page. */
export function open(page) {
  const matrix = new Matrix();
  const top = new Bars();
  const none = el("p", { class: "empty quiet", "data-t": "noSessions" });
  const pairs = new Table("pairs", [
    { name: "src", value: (row) => row.src, text: (row) => tongue(row.src) },
    { name: "tgt", value: (row) => row.tgt, text: (row) => tongue(row.tgt) },
    { name: "nodesReady", number: true, value: (row) => row.ready_nodes },
    { name: "freeSlots", number: true, value: (row) => row.free_slots },
  ], { key: (row) => `${row.src}>${row.tgt}`, sort: "src", empty: "noPairs" });
  const use = new Table("language-use", [
    { name: "language", value: (row) => row.language, text: (row) => tongue(row.language) },
    { name: "asSource", number: true, value: (row) => row.as_source },
    { name: "asTarget", number: true, value: (row) => row.as_target },
    { name: "total", number: true, value: (row) => row.total },
  ], { key: (row) => row.language, sort: "language", empty: "noSessions" });
  const served = section("pairs", "pairs", pairs.element);
  const used = section("use", "language-use", use.element);
  page.append(
    el("h1", { "data-t": "languages" }),
    el("div", { class: "columns two" }, section("room", "whoHasRoom", matrix.element), section("top", "topLanguages", top.element, none)),
    el("div", { class: "columns half" }, served, used));

  const draw = (told) => {
    matrix.set(told.pairs, told.waiting);
    const most = told.web_clients.top_languages;
    top.set(most.map((one) => ({ name: tongue(one.language), value: one.count, text: number(one.count) })));
    none.hidden = most.length > 0;
  };
  follow(draw);
  onLanguage(() => overview && draw(overview));
  asking(served, "/api/v1/languages", 5, (told) => pairs.set(told.pairs));
  asking(used, "/api/v1/stats", 5, (told) =>
    use.set(Object.entries(told.web_clients.language_usage).map(([language, counts]) => ({ language, ...counts }))));
}
