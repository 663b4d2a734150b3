/** The time line of a conversation by any of its ids: one waterfall a sentence, and why it went where it went. */

import { show, t } from "/pages/static/i18n.js";
import { get } from "./api.js";
import { nice } from "./charts.js";
import { el, say, section } from "./dom.js";
import { explain } from "./explain.js";
import { bytes, clock, count, duration, pair, word } from "./format.js";
import { openNode } from "./node.js";
import { tokenButton } from "./part.js";

const STAGES = ["cut", "queue", "send", "node", "reorder"];
/** Lines of the scale. */
const TICKS = 4;

/** The part of the page that shows it; `open(id)` looks one up. */
export function trace() {
  const field = el("input", { id: "trace-id", name: "trace", type: "search", class: "mono", spellcheck: "false", autocomplete: "off", placeholder: "s-…, job-…, s-…:0", required: true });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const key = tokenButton((text) => say(problem, text));
  key.hidden = true;
  const result = el("div", { id: "utterances" });
  const form = el("form", { class: "find", role: "search", onsubmit: submit },
    el("div", {}, el("label", { for: "trace-id", "data-t": "traceId" }), field),
    el("button", { type: "submit", class: "main", "data-t": "look" }));
  const element = section("trace", "timeLine", form, problem, key, result);
  document.addEventListener("unlocked", () => { if (!key.hidden) load(field.value); });

  async function submit(event) {
    event.preventDefault();
    await open(field.value.trim());
  }

  async function open(id) {
    field.value = id;
    await load(id);
    element.scrollIntoView({ block: "start" });
  }

  async function load(id) {
    window.history.replaceState(null, "", `?trace=${encodeURIComponent(id)}`);
    problem.hidden = true;
    key.hidden = true;
    result.replaceChildren();
    try {
      const { utterances } = await get(`/api/v1/utterances/${encodeURIComponent(id)}`);
      result.replaceChildren(...drawn(utterances));
      show(result);
    } catch (error) {
      say(problem, error.status === 401 ? t("operatorsOnly") : error.message);
      key.hidden = error.status !== 401;
      problem.hidden = false;
    }
  }

  return { element, open };
}

function drawn(utterances) {
  const longest = nice(Math.max(1, ...utterances.map(extent)));
  const ticks = Array.from({ length: TICKS + 1 }, (_, at) => el("span", { text: duration((longest * at) / TICKS) }));
  // Whoever looks at a conversation that goes on looks for what was said just now.
  const newest = utterances.toReversed();
  return [
    el("p", { class: "small quiet" },
      t("conversation", { session: newest[0].session_id, count: count("utterances", newest.length), at: clock(newest[0].last_audio_at_ms, true) })),
    el("div", { class: "legend small" }, ...STAGES.map((stage) =>
      el("span", {}, el("i", { "data-stage": stage, "aria-hidden": "true" }), t(`stage:${stage}`)))),
    el("div", { class: "scale small quiet numbers", "aria-hidden": "true" }, el("span"), el("div", {}, ...ticks), el("span")),
    el("div", { class: "waterfall" }, ...newest.map((one) => row(one, longest))),
  ];
}

/** How long after the last sound anything is known, ms. */
function extent(one) {
  return Math.max(one.stages.total_ms ?? 0, ...one.attempts.map((attempt) => attempt.ended_ms ?? attempt.sent_ms ?? 0));
}

function row(one, longest) {
  const kind = one.outcome === "completed" ? "good" : one.outcome === "open" ? "warn" : one.outcome === "silence_detected" || one.outcome === "merged" ? "" : "bad";
  const at = (ms) => `${(100 * Math.max(0, ms)) / longest}%`;
  const place = (element, from, to) => {
    element.style.left = at(from);
    element.style.width = at(to - from);
    return element;
  };
  let from = 0;
  const bars = [];
  for (const stage of STAGES) {
    const ms = one.stages[`${stage}_ms`];
    if (ms === null || ms === undefined) continue;
    bars.push(place(el("i", { "data-stage": stage, title: `${t(`stage:${stage}`)}: ${duration(ms)}` }), from, from + ms));
    from += ms;
  }
  const tries = one.attempts.map((attempt) => place(
    el("i", { class: `attempt ${attempt.end === "ok" ? "good" : attempt.end ? "bad" : "warn"}`, title: `${attempt.node_id}: ${word("end", attempt.end ?? attempt.state)}` }),
    attempt.sent_ms ?? 0, attempt.ended_ms ?? longest));
  const told = one.stages.total_ms === null ? word("outcome", one.outcome) : duration(one.stages.total_ms);
  const details = el("details", { class: "utterance", "data-job": one.job_id },
    el("summary", {},
      el("span", { class: "name" }, el("b", { class: "numbers", text: `#${one.index}` }), ` ${pair(one.src, one.tgt)} `,
        el("span", { class: `pill ${kind}`, text: word("outcome", one.outcome) })),
      el("span", { class: "lane", "aria-hidden": "true" }, ...bars, ...tries),
      el("span", { class: "numbers total", text: told })));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(more(one));
  });
  return details;
}

function more(one) {
  const notes = [
    one.late && t("note:late"),
    one.merged && t("note:merged"),
    one.early_final && t("note:early"),
    one.held_ms > 0 && t("note:held", { time: duration(one.held_ms) }),
    one.missing_before.length > 0 && t("note:missing", { list: one.missing_before.join(", ") }),
    one.in_room && t("note:room"),
  ].filter(Boolean);
  const facts = [
    ["cut", word("cut", one.cut_reason)],
    ["length", duration(one.duration_ms)],
    ["size", bytes(one.bytes)],
    ["silence", one.since_previous_ms === null ? "" : duration(one.since_previous_ms)],
    ["spokenAt", clock(one.last_audio_at_ms, true)],
    ["job", one.job_id],
    ["trace", one.utterance_trace_id ?? one.trace_id],
    ["error", one.error ?? ""],
  ].filter(([, value]) => value);
  const answer = el("div");
  const ask = el("button", { type: "button", text: t("explain"), onclick: async () => {
    ask.disabled = true;
    try {
      const { jobs } = await get(`/api/v1/explain/${encodeURIComponent(one.job_id)}`);
      answer.replaceChildren(...jobs.map(explain));
      show(answer);
    } catch (error) {
      answer.replaceChildren(el("p", { class: "problem", text: error.message }));
    }
    ask.disabled = false;
  } });
  return el("div", { class: "more" },
    ...notes.map((text) => el("p", { class: "note small", text })),
    el("dl", { class: "facts-list" }, ...facts.map(([name, value]) =>
      el("div", {}, el("dt", { text: t(`utterance:${name}`) }), el("dd", { text: value })))),
    el("ol", { class: "lines" }, ...one.attempts.map((attempt) => el("li", {},
      el("button", { type: "button", class: "link mono", text: attempt.node_id, onclick: () => openNode(attempt.node_id) }),
      el("span", { class: "quiet small", text: word("chosen", attempt.chosen) }),
      el("span", { class: `pill ${attempt.end === "ok" ? "good" : attempt.end ? "bad" : "warn"}`, text: word("end", attempt.end ?? attempt.state) }),
      el("span", { class: "numbers quiet", text: t("fromTo", { from: duration(attempt.sent_ms), to: duration(attempt.ended_ms) }) })))),
    ask, answer);
}
