/** What the hub offers: packages for nodes with those that run them, models with their channels, what is used most. */

import { t } from "/pages/static/i18n.js";
import { Bars } from "./charts.js";
import { el, section } from "./dom.js";
import { bytes, number } from "./format.js";
import { list } from "./lists.js";
import { asking } from "./part.js";
import { Table } from "./table.js";

/** Digits of a digest that are enough to compare. */
const DIGITS = 16;
/** Models in the picture. */
const MOST_USED = 10;

/** Fills the page. */
export function open(page) {
  const packages = new Table("packages", [
    { name: "service", value: (row) => row.service_id, show: (row) => el("b", { class: "mono", text: row.service_id }) },
    { name: "title", value: (row) => row.name },
    { name: "version", value: (row) => row.version },
    { name: "platform", value: (row) => row.platform },
    { name: "size", number: true, value: (row) => row.size_bytes, text: (row) => bytes(row.size_bytes) },
    { name: "runOn", number: true, value: (row) => row.nodes },
    { name: "sha256", value: (row) => row.sha256, show: (row) => el("code", { title: row.sha256, text: row.sha256.slice(0, DIGITS) }) },
  ], { key: (row) => `${row.service_id}\n${row.version}\n${row.platform}`, sort: "runOn", down: true, empty: "noPackages" });
  const models = new Table("models", [
    { name: "model", value: (row) => row.id, show: (row) => el("b", { class: "mono", text: row.id }) },
    { name: "task", value: (row) => row.task },
    list("languages", (row) => row.languages),
    { name: "channels", value: (row) => channels(row).map((one) => one.join(" ")).join(", "), show: (row) => pills(row) },
    { name: "versions", value: (row) => row.versions.map((one) => one.version).join(", "), show: (row) => versions(row) },
    { name: "size", number: true, value: (row) => row.versions[0]?.size_bytes ?? 0, text: (row) => bytes(row.versions[0]?.size_bytes ?? 0) },
    { name: "installedOn", number: true, value: (row) => row.nodes },
    { name: "requests", number: true, value: (row) => row.requests },
    { name: "rank", number: true, value: (row) => row.rank, text: (row) => number(row.rank) },
  ], { key: (row) => row.id, sort: "requests", down: true, empty: "noModels" });
  const ranking = new Bars();
  const none = el("p", { class: "empty quiet", "data-t": "noUse" });
  const offered = section("packages", "packages", el("p", { class: "small quiet", "data-t": "packagesWhat" }), packages.element);
  const kept = section("hub", "hubModels", models.element);
  const used = section("ranking", "mostUsed", ranking.element, none);
  page.append(el("h1", { "data-t": "models" }), offered, kept, used);

  let counts = {};
  asking(offered, "/api/v1/stats", 5, ({ nodes }) => {
    counts = nodes.model_node_counts ?? {};
    const running = nodes.service_node_counts ?? {};
    packages.set(nodes.available_services.flatMap((service) => service.variants.map((one) => ({
      service_id: service.service_id, name: service.name, version: one.version, platform: one.platform,
      size_bytes: one.artifact.size_bytes, sha256: one.artifact.sha256, nodes: running[service.service_id] ?? 0,
    }))));
  }, true);
  asking(kept, "/api/v1/hub", 30, (told) => {
    const places = new Map((told.model_ranking ?? []).map((one) => [one.id, one]));
    models.set(told.models.map((one) => ({
      ...one, nodes: counts[one.id] ?? 0, requests: places.get(one.id)?.count ?? 0, rank: places.get(one.id)?.rank ?? null,
    })));
    const most = [...(told.model_ranking ?? []), ...(told.service_ranking ?? [])].sort((a, b) => b.count - a.count).slice(0, MOST_USED);
    ranking.set(most.map((one) => ({ name: one.id, value: one.count, text: number(one.count) })));
    none.hidden = most.length > 0;
  }, true);
}

function channels(row) {
  return [["default", row.default_version], ...Object.entries(row.channels)].filter(([, version]) => version);
}

function pills(row) {
  return el("span", { class: "row" }, ...channels(row).map(([name, version]) => el("span", { class: "pill", text: `${name} ${version}` })));
}

function versions(row) {
  return el("span", { class: "row" }, ...row.versions.map((one) => el("span", {
    class: `pill ${{ published: "good", deprecated: "warn" }[one.status] ?? "bad"}`, title: t(`version:${one.status}`),
    text: one.status === "published" ? one.version : `${one.version} · ${t(`version:${one.status}`)}`,
  })));
}
