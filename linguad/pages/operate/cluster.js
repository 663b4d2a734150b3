/** All instances, their inboxes and dead letters, and the nodes of this one. */

import { show, t } from "/pages/static/i18n.js";
import { change } from "./api.js";
import { Cards } from "./cards.js";
import { el, section } from "./dom.js";
import { bytes, clock, duration, number, word } from "./format.js";
import { health } from "./health.js";
import { loadColumn, meter, nodeColumn, nodes, statusColumn } from "./lists.js";
import { asking, toast } from "./part.js";
import { Table } from "./table.js";

/** Above these numbers something is amiss: letters that wait, and dead ones. */
const PENDING = { warn: 100, bad: 1000 };
const DEAD = { warn: 10, bad: 100 };
const INSTANCE_PENDING = { warn: 10, bad: 100 };
const INSTANCE_DEAD = { warn: 0, bad: 10 };

/** Fills the page. */
export function open(page) {
  const cards = new Cards("instances", "instancesOnline", "nodes", "nodesOnline", "nodesReady", "sessions", "pending", "dead");
  const instances = new Table("instances", [
    { name: "instance", value: (row) => row.instance_id },
    { name: "host", value: (row) => row.hostname },
    { name: "version", value: (row) => row.version },
    {
      name: "status", value: (row) => life(row), text: (row) => t(`instance:${life(row)}`),
      show: (row) => el("span", { class: `pill ${{ online: "good", draining: "warn", offline: "bad" }[life(row)]}`, text: t(`instance:${life(row)}`) }),
    },
    { name: "uptime", number: true, value: (row) => row.uptime_seconds, text: (row) => duration(row.uptime_seconds * 1000) },
    { name: "nodes", number: true, value: (row) => row.nodes_owned },
    { name: "sessions", number: true, value: (row) => row.sessions_owned },
    leveled("pending", (row) => row.inbox_pending, INSTANCE_PENDING),
    leveled("dead", (row) => row.dlq_length, INSTANCE_DEAD),
    { name: "pid", number: true, value: (row) => row.pid, text: (row) => String(row.pid) },
    { name: "address", value: (row) => row.address },
  ], { key: (row) => row.instance_id, sort: "instance", filter: false });
  const fleet = new Table("cluster-nodes", [
    nodeColumn, { name: "platform", value: (row) => row.platform }, statusColumn,
    loadColumn("cpu", (row) => row.cpu_usage), loadColumn("gpu", (row) => row.gpu_usage), loadColumn("memory", (row) => row.memory_usage),
    {
      name: "slots", number: true, value: (row) => row.current_jobs, mark: (row) => row.max_concurrent_jobs,
      show: (row) => meter(row.max_concurrent_jobs ? row.current_jobs / row.max_concurrent_jobs : 0, `${row.current_jobs} / ${row.max_concurrent_jobs}`),
    },
    { name: "services", value: (row) => row.capabilities.map((one) => `${one.ready ? "✓" : "✗"}${one.service_type}`).join(" "), show: (row) => capabilities(row) },
    { name: "heartbeat", value: (row) => row.last_heartbeat, text: (row) => clock(row.last_heartbeat, true) },
  ], { key: (row) => row.node_id, sort: "node", empty: "noNodes" });
  const redis = el("ul", { class: "lines" });
  const letters = new Table("dead-letters", [
    { name: "letter", kind: "short", value: (row) => row.id },
    { name: "kind", value: (row) => row.kind },
    { name: "from-instance", value: (row) => row.from },
    { name: "error", kind: "wide", value: (row) => row.error },
    { name: "deliveries", number: true, value: (row) => row.deliveries },
    { name: "size", number: true, value: (row) => row.bytes, text: (row) => bytes(row.bytes) },
    { name: "at", value: (row) => row.at_ms, text: (row) => (row.at_ms ? clock(row.at_ms, true) : "–") },
    { name: "do", value: () => "", mark: (row) => row.replayable, show: (row) => actions(row) },
  ], { key: (row) => row.id, sort: "at", down: true, empty: "noDead" });

  const overview = section("instances", "instances", cards.element, instances.element);
  const links = section("redis", "redis", redis);
  const dead = section("dead", "deadLetters", letters.element);
  const local = section("fleet", "nodes", fleet.element);
  const alone = nodes();
  alone.element.hidden = true;
  for (const one of [local, links, dead]) one.hidden = true;
  page.append(el("h1", { "data-t": "cluster" }), health("h2"), overview, local, alone.element, links, dead);

  asking(overview, "/api/v1/cluster", 5, (told) => {
    for (const one of [local, links, dead]) one.hidden = false;
    alone.element.hidden = true;
    cards.set({
      instances: number(told.total_instances),
      instancesOnline: [number(told.online_instances), told.online_instances < told.total_instances ? "warn" : ""],
      nodes: number(told.total_nodes), nodesOnline: number(told.online_nodes), nodesReady: number(told.ready_nodes),
      sessions: number(told.total_sessions),
      pending: [number(told.total_pending), level(told.total_pending, PENDING)],
      dead: [number(told.total_dlq), level(told.total_dlq, DEAD)],
    });
    instances.set(told.instances);
    fleet.set(told.nodes);
    redis.replaceChildren(...told.redis.map((one) => el("li", {},
      el("span", { class: "mono", text: one.server }), el("span", { class: "quiet", text: `${one.link} · Redis ${one.version}` }),
      el("span", { class: `pill ${one.state === "closed" ? "good" : "bad"}`, text: word("link", one.state) }))));
    show(page);
  }, true, () => { alone.element.hidden = !local.hidden; });
  asking(alone.element, () => (alone.element.hidden ? "" : "/api/v1/nodes"), 5, alone.set);
  const again = asking(dead, "/api/v1/cluster/dlq?limit=1000", 10, (told) => letters.set(told.letters));

  function actions(row) {
    const act = (method, path, done) => async () => {
      try {
        const [instance, entry] = row.id.split("/");
        const answer = await change(method, `/api/v1/cluster/dlq/${encodeURIComponent(instance)}/${encodeURIComponent(entry)}${path}`);
        if (answer) toast(t(done, { letter: row.id }));
      } catch (error) {
        toast(error.message);
      }
      again();
    };
    return el("span", { class: "row" },
      row.replayable ? el("button", { type: "button", class: "small", text: t("replay"), onclick: act("POST", "/replay", "replayed") }) : "",
      el("button", { type: "button", class: "small danger", text: t("drop"), onclick: act("DELETE", "", "dropped") }));
  }
}

function life(row) { return row.is_online ? (row.draining ? "draining" : "online") : "offline"; }

function level(value, { warn, bad }) { return value > bad ? "bad" : value > warn ? "warn" : ""; }

function leveled(name, value, limits) {
  return { name, number: true, value, show: (row) => el("span", { class: `level ${level(value(row), limits)}`, text: number(value(row)) }) };
}

function capabilities(row) {
  return el("span", { class: "capabilities" }, ...row.capabilities.map((one) =>
    el("span", { class: one.ready ? "good" : "quiet", title: one.ready ? "" : word("why-not", one.reason), text: `${one.ready ? "✓" : "✗"} ${one.service_type}` })));
}
