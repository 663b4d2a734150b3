/** The last 24 hours, minute by minute. */

import { onLanguage, show, t } from "/pages/static/i18n.js";
import { LineChart } from "./charts.js";
import { el, section } from "./dom.js";
import { bytes, clock, duration, number } from "./format.js";
import { csv, download } from "./table.js";

/** What is drawn together, and how its numbers are read. */
const VIEWS = {
  load: { gauges: ["slots", "slots_used", "jobs_waiting"], number },
  results: { gauges: ["results_per_minute", "failures_per_minute"], number },
  times: { gauges: ["total_p50_ms", "total_p95_ms", "queue_p95_ms"], number: duration },
  people: { gauges: ["sessions", "sessions_detached"], number },
  nodes: { gauges: ["nodes_online", "nodes_ready"], number },
  server: { gauges: ["loop_lag_ms"], number: duration },
  memory: { gauges: ["buffered_bytes"], number: bytes },
};
const HOURS = [1, 6, 24];
/** Points of a line; of more minutes the largest in a row counts, so that no peak is lost. */
const POINTS = 240;

/** The part of the page that shows them; `set` takes an answer of `/api/v1/history`. */
export function history() {
  let told = null;
  const chart = new LineChart();
  const view = el("select", { "data-t-label": "whatIsDrawn", onchange: draw },
    ...Object.keys(VIEWS).map((name) => el("option", { value: name, "data-t": `view:${name}` })));
  const hours = el("select", { "data-t-label": "howLong", onchange: draw },
    ...HOURS.map((count) => el("option", { value: count, selected: count === 6, "data-t": `last:${count}` })));
  const exports = ["CSV", "JSON"].map((kind) =>
    el("button", { type: "button", class: "plain small", text: kind, "data-t-title": "takeAlong", onclick: () => save(kind) }));
  const none = el("p", { class: "empty quiet", "data-t": "noHistory" });
  const element = section("history", "lastHours", chart.element, none);
  element.querySelector(".head").append(el("div", { class: "row" }, view, hours, ...exports));
  onLanguage(draw);

  function draw() {
    if (!told) return;
    const count = Math.min(told.minutes, Number(hours.value) * 60);
    none.hidden = count > 1;
    chart.element.hidden = count <= 1;
    if (count <= 1) return;
    const size = Math.ceil(count / POINTS);
    const { gauges, number: shown } = VIEWS[view.value];
    const thin = (values) => groups(values.slice(-count), size).map((some) => Math.max(...some));
    const first = told.until_ms - (count - 1) * told.interval_seconds * 1000;
    const times = groups([...Array(count).keys()], size).map((some) => first + some.at(-1) * told.interval_seconds * 1000);
    chart.set({
      label: t("chartLabel", { what: t(`view:${view.value}`), time: t(`last:${hours.value}`) }),
      times, clock, number: shown,
      series: gauges.map((name) => ({ name: t(`gauge:${name}`), values: thin(told.gauges[name]) })),
    });
  }

  function save(kind) {
    if (!told) return;
    const rows = Array.from({ length: told.minutes }, (_, index) => ({
      at: new Date(told.until_ms - (told.minutes - 1 - index) * told.interval_seconds * 1000).toISOString(),
      ...Object.fromEntries(Object.entries(told.gauges).map(([name, values]) => [name, values[index]])),
    }));
    const columns = ["at", ...Object.keys(told.gauges)].map((name) => ({ name, value: (row) => row[name] }));
    download(`history.${kind.toLowerCase()}`, kind === "CSV" ? csv(columns, rows) : `${JSON.stringify(rows, null, 1)}\n`);
  }

  return {
    element,
    set(answer) {
      told = answer;
      draw();
      show(element);
    },
  };
}

function groups(values, size) {
  const found = [];
  for (let at = 0; at < values.length; at += size) found.push(values.slice(at, at + size));
  return found;
}
