/** What was said, as it is read: one entry for each utterance, in the order in which they began. */

import { show, t } from "../static/i18n.js";

const NEAR_END_PX = 120;
const MAX_ENTRIES = 500;
const STAGES = ["cut", "queue", "send", "asr", "nmt", "tts", "node", "reorder"];

export class Conversation {
  /** `log` is filled, `scroller` follows; `onReplay` gets a clip to be heard again. */
  constructor({ log, template, scroller, onReplay }) {
    this._log = log;
    this._template = template;
    this._scroller = scroller;
    this._onReplay = onReplay;
    this._waiting = new Map();
    this._jobs = new Map();
  }

  /** A new session counts its utterances from 0 again; what waits will come under other numbers. */
  beginAnew() {
    for (const entry of this._waiting.values()) entry.remove();
    this._waiting.clear();
    this._jobs.clear();
  }

  /** Own speech was cut, or understood in part. */
  heard(index, text, jobId, lang) {
    if (jobId) this._jobs.set(jobId, index);
    const entry = this._waiting.get(index) ?? this._add("mine waiting");
    // It is read aloud when it is complete, not with every word that comes.
    entry.ariaBusy = "true";
    this._waiting.set(index, entry);
    if (text) setText(entry, "said", text, lang);
    this._follow();
  }

  /** An utterance is translated, own or another's; returns its entry. */
  translated({ result, isMine, name, said, meant, clip }) {
    const index = this._jobs.get(result.job_id) ?? (isMine ? result.utterance_index : undefined);
    const waiting = isMine ? this._waiting.get(index) : undefined;
    this._waiting.delete(waiting && index);
    const entry = waiting ?? this._add("");
    entry.className = `utterance ${isMine ? "mine" : "theirs"}`;
    entry.ariaBusy = null;
    entry.querySelector(".who").textContent = name;
    // Where all understand the speaker nothing is translated.
    setText(entry, "said", result.text_translated ? result.text_asr : "", said);
    setText(entry, "meant", result.text_translated || result.text_asr, result.text_translated ? meant : said);
    if (clip) {
      const replay = entry.querySelector(".replay");
      replay.hidden = false;
      replay.onclick = () => this._onReplay({ ...clip, entry });
    }
    if (result.time_breakdown) showTimes(entry, result);
    this._log.dataset.results = Number(this._log.dataset.results) + 1;
    this._follow();
    return entry;
  }

  /** An utterance has no result; without a reason for people it was silence or belongs to another one. */
  missing(index, why) {
    const entry = this._waiting.get(index);
    this._waiting.delete(index);
    if (!why) {
      entry?.remove();
      return;
    }
    const failed = entry ?? this._add("mine");
    failed.className = "utterance mine failed";
    failed.ariaBusy = null;
    failed.querySelector(".meant").textContent = why;
    this._follow();
  }

  /** Texts of the page's own language, after it changed. */
  retell() {
    for (const summary of this._log.querySelectorAll(".timing summary")) {
      summary.textContent = t("timing", { ...summary.dataset });
    }
  }

  _add(kind) {
    this._log.querySelector("#welcome")?.remove();
    const entry = this._template.content.cloneNode(true).firstElementChild;
    entry.className = `utterance ${kind}`;
    show(entry);
    this._log.append(entry);
    if (this._log.childElementCount > MAX_ENTRIES) this._log.firstElementChild.remove();
    return entry;
  }

  _follow() {
    const { scrollHeight, scrollTop, clientHeight } = this._scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX + this._log.lastElementChild?.clientHeight) {
      this._scroller.scrollTop = scrollHeight;
    }
  }
}

function setText(entry, part, text, lang) {
  const line = entry.querySelector(`.${part}`);
  line.textContent = text;
  if (lang) line.lang = lang;
  line.dir = "auto";
}

/** Where the time went, as a bar and in numbers. */
function showTimes(entry, { time_breakdown: times, service_timings: services = {} }) {
  const inNode = ["asr", "nmt", "tts"].reduce((sum, stage) => sum + (services[`${stage}_ms`] ?? 0), 0);
  const took = { ...times, ...services, node_ms: Math.max(0, times.node_ms - inNode) };
  const timing = entry.querySelector(".timing");
  const summary = timing.querySelector("summary");
  timing.hidden = false;
  summary.dataset.seconds = (times.total_ms / 1000).toFixed(1);
  summary.textContent = t("timing", { ...summary.dataset });
  for (const stage of STAGES) {
    const ms = took[`${stage}_ms`] ?? 0;
    if (ms < 0.5) continue;
    const part = document.createElement("span");
    part.dataset.stage = stage;
    part.style.flex = `${ms} 0 2px`;
    timing.querySelector(".bar").append(part);
    const [row, name, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    row.dataset.stage = stage;
    name.dataset.t = stage;
    value.textContent = `${Math.round(ms)} ms`;
    row.append(name, value);
    timing.querySelector("dl").append(row);
  }
  show(timing);
}
