/** The first sentence: is it healthy, and if not, why. */

import { onLanguage, t } from "/pages/static/i18n.js";
import { el, say } from "./dom.js";
import { clock, count, duration, number, pair, percent, word } from "./format.js";
import { follow, onState, overview } from "./news.js";
import { isEnding, left, stopButton } from "./stop.js";

/** Parts of all sentences of the last minute that failed. */
export const FAILING_SHARE = { warn: 0.05, bad: 0.25 };
/** From this share of used slots on little is left. */
const NEARLY_FULL = 0.9;
/** Jobs that wait longer are worth a word, s. */
const LONG_WAIT_S = 2;
/** An event loop that was late by more makes everything late, ms. */
const LATE_MS = 250;
const NAMED_PAIRS = 3;
const LEVELS = ["bad", "warn", "good"];

/** The part of the sentences of the last minute that failed. */
export function failingShare({ results_per_minute: good, failures_per_minute: bad }) { return good + bad ? bad / (good + bad) : 0; }

/** What is wrong, the worst first: `{ level, text }`. */
function issues(told) {
  const { state, gauges, waiting, failing_count: failing } = told;
  const found = [];
  const add = (level, text) => found.push({ level, text });
  const reasons = state.reasons.filter((one) => one !== "draining");
  if (reasons.length) add("bad", t("notReady", { why: reasons.map((one) => word("state", one)).join(", ") }));
  const vain = waiting.filter((queue) => !queue.ready_nodes);
  if (vain.length) add("bad", t(sum(vain) === 1 ? "waitsInVain" : "waitInVain", { jobs: sum(vain), pairs: pairs(vain) }));
  if (!gauges.nodes_ready) add(gauges.sessions ? "bad" : "warn", t(gauges.nodes_online ? "noneReady" : "noNodes"));
  const share = failingShare(gauges);
  if (share >= FAILING_SHARE.warn) {
    add(share >= FAILING_SHARE.bad ? "bad" : "warn", t("manyFail", { share: percent(share), count: gauges.failures_per_minute }));
  }
  const long = waiting.filter((queue) => queue.ready_nodes && queue.oldest_s > LONG_WAIT_S);
  if (long.length) {
    const oldest = Math.max(...long.map((queue) => queue.oldest_s));
    add("warn", t(sum(long) === 1 ? "nodesBusyOne" : "nodesBusy", { jobs: sum(long), pairs: pairs(long), oldest: duration(oldest * 1000) }));
  } else if (gauges.slots && gauges.slots_used / gauges.slots >= NEARLY_FULL) {
    add("warn", t("nearlyFull", { used: gauges.slots_used, slots: gauges.slots }));
  }
  for (const name of state.degraded) add("warn", t("degraded", { name: word("state", name) }));
  if (failing) add("warn", t(failing === 1 ? "nodeFails" : "nodesFail", { count: number(failing) }));
  if (gauges.loop_lag_ms > LATE_MS) add("warn", t("loopLate", { lag: duration(gauges.loop_lag_ms) }));
  found.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
  // Whoever ended it wants to know this first.
  return isEnding(told) ? [{ level: "warn", text: t("ending", left(told)) }, ...found] : found;
}

/** What is to be said when the server says nothing. */
function silence() {
  if (!overview) return [{ level: "bad", text: t("unreachable") }];
  const since = { time: clock(overview.at_ms, true) };
  return [isEnding(overview) ? { level: "warn", text: t("hasEnded", since) } : { level: "bad", text: t("isSilent", since) }];
}

function sum(queues) { return queues.reduce((jobs, queue) => jobs + queue.jobs, 0); }

function pairs(queues) {
  const named = [...new Set(queues.map((queue) => pair(queue.src, queue.tgt)))];
  return named.slice(0, NAMED_PAIRS).join(", ") + (named.length > NAMED_PAIRS ? " …" : "");
}

/** The part of the page that says so, under a heading of this kind. */
export function health(heading = "h1") {
  let isSilent = false;
  const headline = el(heading, { class: "headline", "data-t": "connecting" });
  const rest = el("ul", { class: "issues" });
  const facts = el("p", { class: "facts small numbers" });
  const element = el("section", { id: "health", class: "card", "data-level": "unknown", "aria-labelledby": "health-title" },
    el("div", { class: "what" }, el("div", { role: "status" }, headline), rest),
    el("div", { class: "row" }, facts, stopButton()));
  headline.id = "health-title";
  follow(draw);
  onLanguage(draw);
  onState((state) => {
    isSilent = state === "old";
    draw();
  });

  function draw() {
    if (!overview && !isSilent) return;
    const found = isSilent ? silence() : issues(overview);
    headline.removeAttribute("data-t");
    element.dataset.level = found[0]?.level ?? "good";
    say(headline, found[0]?.text ?? t("allWell"));
    const others = found.slice(1);
    while (rest.children.length > others.length) rest.lastElementChild.remove();
    for (const [index, one] of others.entries()) {
      const line = rest.children[index] ?? rest.appendChild(el("li"));
      line.className = one.level;
      say(line, one.text);
    }
    if (!overview) return;
    const { facts: told, gauges, instance: { id } } = overview;
    const text = t("facts", {
      version: told.version, uptime: duration(told.uptime_seconds * 1000), nodes: count("nodes", gauges.nodes_online),
      sessions: count("sessions", gauges.sessions),
    });
    say(facts, id ? `${id} · ${text}` : text);
  }

  return element;
}
