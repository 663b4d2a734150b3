/** What became of the jobs, where the time goes, how sure the nodes are. */

import { t } from "/pages/static/i18n.js";
import { Bars, stacked } from "./charts.js";
import { el, say, section } from "./dom.js";
import { duration, number, percent, word } from "./format.js";

/** Outcomes that are nobody's fault. */
const FAULTLESS = ["completed", "silence_detected", "merged", "cancelled"];
const STAGES = ["cut", "queue", "send", "node", "reorder"];

/** Jobs by outcome since the start, and the share of errors. */
export function outcomes() {
  const rate = el("p", { class: "small quiet numbers" });
  const bars = new Bars();
  const none = el("p", { class: "empty quiet", "data-t": "noJobs" });
  const element = section("outcomes", "outcomes", rate, bars.element, none);
  return {
    element,
    set({ outcomes: counts }) {
      const found = Object.entries(counts).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
      const all = found.reduce((sum, [, count]) => sum + count, 0);
      const bad = found.filter(([name]) => !FAULTLESS.includes(name)).reduce((sum, [, count]) => sum + count, 0);
      none.hidden = all > 0;
      say(rate, all ? t("errorRate", { share: percent(bad / all, 1), all: number(all) }) : "");
      bars.set(found.map(([name, count]) => ({
        name: word("outcome", name), value: count, text: number(count),
        kind: name === "completed" ? "good" : FAULTLESS.includes(name) ? "" : "bad",
      })));
    },
  };
}

/** Where the time of the last minute went. */
export function stages() {
  const none = el("p", { class: "empty quiet", "data-t": "noResults" });
  const picture = el("div");
  const list = el("dl", { class: "stages numbers" });
  const rows = Object.fromEntries([...STAGES, "total"].map((stage) => {
    const typical = el("dd"), slow = el("dd", { class: "quiet" });
    list.append(el("div", { "data-stage": stage }, el("dt", { "data-t": `stage:${stage}` }), typical, slow));
    return [stage, { typical, slow }];
  }));
  const element = section("stages", "whereTimeGoes", none, picture, list);
  return {
    element,
    set({ stages: told }) {
      const known = told.total.p50_ms > 0;
      none.hidden = known;
      list.hidden = picture.hidden = !known;
      if (!known) return;
      const drawn = JSON.stringify(told);
      if (picture.dataset.drawn === drawn) return;
      picture.dataset.drawn = drawn;
      picture.replaceChildren(stacked(STAGES.map((stage) => ({ name: t(`stage:${stage}`), value: told[stage].p50_ms, stage }))));
      for (const stage in rows) {
        say(rows[stage].typical, duration(told[stage].p50_ms));
        say(rows[stage].slow, t("p95", { time: duration(told[stage].p95_ms) }));
      }
    },
  };
}

/** Reruns and the quality of what was heard; `set` takes an answer of `/api/v1/metrics`. */
export function quality() {
  const bars = new Bars();
  const facts = el("dl", { class: "facts-list numbers" });
  const rows = Object.fromEntries(["badShare", "rerunShare", "reruns", "improved"].map((name) => {
    const value = el("dd");
    facts.append(el("div", {}, el("dt", { "data-t": name }), value));
    return [name, value];
  }));
  const element = section("quality", "quality", facts, el("h3", { class: "small quiet", "data-t": "howSure" }), bars.element);
  return {
    element,
    set({ asr, rerun }) {
      say(rows.badShare, percent(asr.bad_segment_rate, 1));
      say(rows.rerunShare, percent(asr.rerun_trigger_rate, 1));
      say(rows.reruns, `${number(rerun.success_count)} / ${number(rerun.trigger_count)}`);
      say(rows.improved, number(rerun.quality_improvements));
      bars.set(asr.lang_prob_distribution.map(({ key, count }) => ({ name: key, value: count, text: number(count) })));
    },
  };
}
