/** The long tables: nodes, sessions, and the pools of each pair of languages. */

import { show, t } from "/pages/static/i18n.js";
import { el, section } from "./dom.js";
import { bytes, few, number, pair, percent, word } from "./format.js";
import { openNode, statusKind } from "./node.js";
import { Table } from "./table.js";

/** A part of one in a small bar, with its text. */
export function meter(part, text) {
  const fill = el("i");
  fill.style.width = `${Math.min(100, Math.max(0, part * 100))}%`;
  return el("span", { class: "meter" }, el("span", { class: "track", "aria-hidden": "true" }, fill), text);
}

/** A column with the id of a node, which opens its sheet. */
export const nodeColumn = {
  name: "node", kind: "name", value: (row) => row.node_id,
  show: (row) => el("button", { type: "button", class: "link mono", text: row.node_id, onclick: () => openNode(row.node_id) }),
};

/** A column with the state of a node. */
export const statusColumn = {
  name: "status", value: (row) => row.status, text: (row) => word("status", row.status),
  show: (row) => el("span", { class: `pill ${statusKind(row.status)}`, text: word("status", row.status) }),
};

/** A column with a load in %. */
export function loadColumn(name, value) {
  return { name, number: true, value, show: (row) => (value(row) === null ? "–" : meter(value(row) / 100, percent(value(row) / 100))) };
}

/** A column with words, of which only some are shown. */
export function list(name, words) {
  return { name, kind: "short", value: (row) => words(row).join(", "), show: (row) => el("span", { title: words(row).join(", "), text: few(words(row)) }) };
}

const NODE_COLUMNS = [
  nodeColumn, statusColumn,
  {
    name: "slots", number: true, value: (row) => row.slots_used, mark: (row) => row.slots,
    show: (row) => meter(row.slots ? row.slots_used / row.slots : 0, `${number(row.slots_used)} / ${number(row.slots)}`),
  },
  list("services", (row) => row.services_running), list("hears", (row) => row.asr_languages), list("speaks", (row) => row.tts_languages),
  loadColumn("cpu", (row) => row.cpu_percent),
  loadColumn("gpu", (row) => row.gpu_percent),
  { name: "hardware", value: (row) => row.gpus.join(", ") },
  { name: "platform", value: (row) => row.platform },
  { name: "note", value: (row) => row.note ?? "" },
];

/** All nodes; `set` takes an answer of `/api/v1/nodes`. */
export function nodes() {
  const table = new Table("nodes", NODE_COLUMNS, { key: (row) => row.node_id, sort: "node", empty: "startANode" });
  return { element: section("nodes", "nodes", table.element), set: (told) => table.set(told.nodes) };
}

/** All sessions of this instance; `open` shows the time line of one. */
export function sessions(open) {
  const table = new Table("sessions", [
    {
      name: "session", kind: "short", value: (row) => row.session_id,
      show: (row) => el("button", { type: "button", class: "link mono", text: row.session_id, onclick: () => open(row.session_id) }),
    },
    {
      name: "status", value: (row) => row.state, text: (row) => word("session", row.state),
      show: (row) => el("span", { class: `pill ${row.state === "attached" ? "good" : "warn"}`, text: word("session", row.state) }),
    },
    { name: "pair", kind: "short", value: (row) => pair(row.src, row.tgt) },
    { name: "tenant", value: (row) => row.tenant },
    { name: "platform", value: (row) => row.platform },
    { name: "room", value: (row) => row.room_id ?? "" },
    { name: "pairedNode", value: (row) => row.paired_node_id ?? "" },
    { name: "utterances", number: true, value: (row) => row.next_index },
    { name: "open", number: true, value: (row) => row.open_utterances },
    { name: "buffered", number: true, value: (row) => row.buffered_bytes, text: (row) => bytes(row.buffered_bytes) },
  ], { key: (row) => row.session_id, sort: "session", empty: "noSessions" });
  return { element: section("sessions", "sessions", table.element), set: (told) => table.set(told.sessions) };
}

/** Pools of a pair that are drawn; all are counted. */
const MOST_FILLS = 20;

/** The pools of each pair; `set` takes an answer of `/api/v1/pools`, `room` the pairs of the overview. */
export function pools() {
  let free = new Map();
  let most = 1;
  const table = new Table("pools", [
    { name: "pair", kind: "short", value: (row) => pair(row.src, row.tgt) },
    { name: "ready", number: true, value: (row) => row.ready_nodes },
    { name: "online", number: true, value: (row) => row.online_nodes },
    { name: "freeSlots", number: true, value: (row) => free.get(`${row.src}>${row.tgt}`) ?? null, text: (row) => number(free.get(`${row.src}>${row.tgt}`)) },
    { name: "poolCount", number: true, value: (row) => row.shards.length + row.more_shards },
    { name: "fill", value: (row) => row.shards.map((one) => one.size).join(" "), mark: () => most, show: (row) => fills(row.shards) },
  ], { key: (row) => `${row.src}>${row.tgt}`, sort: "ready", down: true, empty: "noPairs" });
  const own = new Table("capability-pools", [
    { name: "pool", value: (row) => row.pool_name || String(row.pool_id) },
    { name: "services", value: (row) => (row.pool_required_services ?? []).join(", ") },
    { name: "ready", number: true, value: (row) => row.ready_nodes },
    { name: "online", number: true, value: (row) => row.online_nodes },
    { name: "known", number: true, value: (row) => row.total_nodes },
  ], { key: (row) => row.pool_id, sort: "pool", filter: false });
  const named = el("div", { hidden: true }, el("h3", { "data-t": "capability-pools" }), own.element);
  const element = section("pools", "pools", el("p", { class: "small quiet", "data-t": "poolsWhat" }), table.element, named);

  function fills(shards) {
    return el("span", { class: "fills" }, ...shards.slice(0, MOST_FILLS).map((one) => {
      const fill = el("i", { title: t("poolFill", { class: one.class, pool: one.pool, size: one.size, most }) });
      fill.style.setProperty("--fill", `${Math.min(100, (100 * one.size) / most)}%`);
      return fill;
    }), el("span", { class: "numbers", text: few(shards.map((one) => number(one.size))) }));
  }

  return {
    element,
    set(told) {
      most = told.config.max_members ?? 1;
      table.set(told.lang_pools);
      named.hidden = !told.config.enabled;
      own.set(told.pools);
      show(element);
    },
    room(pairs) { free = new Map(pairs.map((one) => [`${one.src}>${one.tgt}`, one.free_slots])); },
  };
}
