/** The numbers that are looked at first, each with the last hour behind it. */

import { t } from "/pages/static/i18n.js";
import { Spark } from "./charts.js";
import { el, say } from "./dom.js";
import { duration, number } from "./format.js";
import { FAILING_SHARE, failingShare } from "./health.js";

/** Values of a line, minutes or, in the first minutes of a server, seconds. */
const KEPT = 60;

const TILES = [
  { gauge: "sessions", shown: number, more: (g) => (g.sessions_detached ? t("detached", { count: g.sessions_detached }) : "") },
  { gauge: "nodes_ready", shown: number, more: (g) => t("ofOnline", { count: number(g.nodes_online) }) },
  { gauge: "slots_used", shown: number, more: (g) => t("ofSlots", { count: number(g.slots) }), level: (g) => (g.slots && g.slots_used >= g.slots ? "warn" : "") },
  { gauge: "jobs_waiting", shown: number, more: (g) => within(g.queue_p95_ms), level: (g) => (g.jobs_waiting ? "warn" : "") },
  { gauge: "results_per_minute", shown: number, more: (g) => t("failed", { count: number(g.failures_per_minute) }), level: (g) => (failingShare(g) >= FAILING_SHARE.warn ? "warn" : "") },
  { gauge: "total_p50_ms", shown: (value) => (value ? duration(value) : "–"), more: (g) => within(g.total_p95_ms) },
];

/** What 95 % keep to; nothing before there is a number. */
function within(ms) { return ms ? t("slowest", { time: duration(ms) }) : ""; }

/** The part of the page that shows them. */
export function tiles() {
  const live = [];
  let history = null;
  const parts = TILES.map((tile) => {
    const value = el("dd", { class: "value numbers" }), more = el("dd", { class: "more small quiet numbers" }), spark = new Spark();
    const element = el("div", { class: "tile card", "data-gauge": tile.gauge },
      el("dt", { class: "small quiet", "data-t": `gauge:${tile.gauge}` }), value, more, spark.element);
    return { ...tile, element, value, extra: more, spark };
  });

  function set({ gauges }) {
    live.push(gauges);
    if (live.length > KEPT) live.shift();
    for (const part of parts) {
      say(part.value, part.shown(gauges[part.gauge]));
      say(part.extra, part.more(gauges));
      part.element.dataset.level = part.level?.(gauges) ?? "";
      const past = history?.minutes > 1 ? history.gauges[part.gauge].slice(1 - KEPT) : null;
      part.spark.set(past ? [...past, gauges[part.gauge]] : live.map((one) => one[part.gauge]));
    }
  }

  return {
    element: el("dl", { id: "tiles", class: "tiles" }, ...parts.map((part) => part.element)),
    set,
    remember: (told) => { history = told; },
  };
}
