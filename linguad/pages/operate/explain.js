/** Why a job has its node or none: how it was chosen, and every node as selection would see it now. */

import { t } from "/pages/static/i18n.js";
import { Bars } from "./charts.js";
import { el } from "./dom.js";
import { duration, number, word } from "./format.js";
import { nodeColumn, statusColumn } from "./lists.js";
import { Table } from "./table.js";

const COLUMNS = [
  nodeColumn, statusColumn,
  {
    name: "verdict", value: (row) => row.veto ?? (row.selected ? "selected" : "possible"), text: verdict,
    show: (row) => el("span", { class: `pill ${row.selected ? "good" : row.veto ? "bad" : ""}`, text: verdict(row) }),
  },
  seconds("finish", "finish_s"), seconds("backlog", "backlog_s"), seconds("penalty", "penalty_s"),
  { name: "speed", number: true, value: (row) => row.speed, text: (row) => number(row.speed, 1) },
  { name: "slots", number: true, value: (row) => row.slots_used, mark: (row) => row.slots, text: (row) => `${row.slots_used} / ${row.slots}` },
];

function seconds(name, member) {
  return { name, number: true, value: (row) => row[member], text: (row) => (row[member] === null ? "–" : duration(row[member] * 1000)) };
}

function verdict(row) { return row.veto ? word("veto", row.veto) : t(row.selected ? "wouldBe" : "possible"); }

/** A job of `/api/v1/explain`. */
export function explain(job) {
  const parts = [el("h3", { text: t("explainOf", { job: job.job_id }) })];
  if (job.waiting) {
    parts.push(el("p", { text: t("isWaiting", { earlier: job.waiting.earlier_of_session, alike: job.waiting.all_alike }) }));
  }
  if (job.reason) {
    const why = job.details?.reason ? ` (${word("veto", job.details.reason)})` : "";
    parts.push(el("p", { text: `${word("outcome", job.reason)}${why}` }));
  }
  if (!job.now) return el("div", { class: "explain" }, ...parts, el("p", { class: "quiet", text: t("notLooked") }));
  const { breakdown, candidates, total_nodes: all, more_candidates: more } = job.now;
  const bars = new Bars();
  bars.set(Object.entries(breakdown).map(([name, count]) => ({ name: word("veto", name), value: count, text: number(count), kind: "bad" })), all);
  const table = new Table("candidates", COLUMNS, { key: (row) => row.node_id, sort: "finish", empty: "noNodes" });
  table.set(candidates);
  return el("div", { class: "explain" }, ...parts,
    el("p", { class: "quiet small", text: t("nodesNow", { all: number(all) }) }), bars.element, table.element,
    more ? el("p", { class: "quiet small", text: t("more", { count: number(more) }) }) : "");
}
