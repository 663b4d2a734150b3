/** All about one node, in a sheet at the side, with what an operator can say about it. */

import { show, t } from "/pages/static/i18n.js";
import { change, get } from "./api.js";
import { Bars } from "./charts.js";
import { el, say } from "./dom.js";
import { duration, few, number, percent, tongue, word } from "./format.js";
import { every } from "./news.js";
import { toast } from "./part.js";

/** What an operator may say in a field; `read` makes of its text what is sent. */
const FIELDS = [
  { name: "cap", type: "number", min: 1, max: 64, step: 1, read: Number },
  { name: "weight", type: "number", min: 0.05, max: 20, step: "any", read: Number },
  { name: "note", type: "text", maxlength: 500, read: String },
];
const SECONDS = 3;

let shown = "";
let refresh = null;
let parts = null;

/** How a state of a node is coloured. */
export function statusKind(status) {
  return { ready: "good", draining: "", registering: "warn", degraded: "bad", offline: "bad" }[status] ?? "";
}

/** Shows a node by its id. */
export async function openNode(id) {
  const dialog = document.getElementById("node");
  shown = id;
  parts = sheet(id);
  dialog.replaceChildren(...parts.elements);
  show(dialog);
  if (!dialog.open) dialog.showModal();
  refresh ??= every(SECONDS, load);
  await load();
}

async function load() {
  const dialog = document.getElementById("node"), id = shown;
  if (!dialog.open) return;
  try {
    const node = await get(path(id));
    if (shown === id) draw(node);
  } catch (error) {
    if (shown === id) problem(error.status === 401 ? t("operatorsOnly") : error.message);
  }
}

function path(id) { return `/api/v1/nodes/${encodeURIComponent(id)}`; }

function sheet(id) {
  const close = el("button", { type: "button", class: "plain", "data-t": "close", onclick: () => document.getElementById("node").close() });
  const status = el("span", { class: "pill" });
  const trouble = el("p", { class: "problem", role: "alert", hidden: true });
  const info = el("div");
  const fields = Object.fromEntries(FIELDS.map(({ name, type, read, ...limits }) =>
    [name, el("input", { id: `said-${name}`, name, type, autocomplete: "off", ...limits })]));
  const drain = el("button", { type: "button", onclick: () => toggleDrain() });
  const form = el("form", { class: "said", onsubmit: save },
    el("h3", { "data-t": "whatYouSay" }),
    el("p", { class: "small quiet", "data-t": "whatYouSayWhat" }),
    el("div", { class: "fields" }, ...FIELDS.map(({ name }) =>
      el("div", { class: name }, el("label", { for: `said-${name}`, "data-t": `said:${name}` }), fields[name]))),
    el("div", { class: "row" }, el("button", { type: "submit", class: "main", "data-t": "save" }), drain));
  const more = Object.fromEntries(["passedOver", "speeds", "attempts"].map((name) => {
    const body = el("div");
    return [name, { body, element: el("details", {}, el("summary", { "data-t": name }), body) }];
  }));
  return {
    elements: [
      el("div", { class: "head" }, el("h2", { id: "node-title", class: "mono", text: id }), status, close),
      trouble, info, form, ...Object.values(more).map((one) => one.element),
    ],
    status, trouble, info, fields, drain, more, node: null,
  };
}

function problem(text) {
  say(parts.trouble, text);
  parts.trouble.hidden = !text;
}

function draw(node) {
  const first = !parts.node;
  problem("");
  parts.node = node;
  parts.status.className = `pill ${statusKind(node.status)}`;
  say(parts.status, word("status", node.status));
  if (first) fillIn(node);
  const drained = isDrained(node);
  parts.drain.className = drained ? "" : "danger";
  say(parts.drain, t(drained ? "giveWork" : "drain"));
  parts.info.replaceChildren(...about(node));
  parts.more.passedOver.body.replaceChildren(passedOver(node));
  parts.more.speeds.body.replaceChildren(speeds(node));
  const list = attempts(node), mark = JSON.stringify(node.last_attempts);
  if (parts.more.attempts.mark !== mark) parts.more.attempts.body.replaceChildren(list);
  parts.more.attempts.mark = mark;
}

function about(node) {
  const { health, hardware } = node;
  const facts = [
    ["slots", `${number(node.slots_used)} / ${number(node.slots)}`],
    ["heartbeat", t("ago", { time: duration(health.heartbeat_age_s * 1000) })],
    ["platform", node.platform],
    ["hardware", [
      hardware.cpu_cores && t("cores", { count: hardware.cpu_cores }),
      hardware.memory_gb && `${number(hardware.memory_gb)} GB`, ...node.gpus,
    ].filter(Boolean).join(" · ")],
    ["cpu", node.cpu_percent === null ? "" : percent(node.cpu_percent / 100)],
    ["gpu", node.gpu_percent === null ? "" : percent(node.gpu_percent / 100)],
    ["services", node.services_running.join(", ")],
    ["hears", few(node.asr_languages.map(tongue))],
    ["speaks", few(node.tts_languages.map(tongue))],
    ["models", few(node.models)],
    ["pool", node.capability_pool?.name ?? ""],
    ["owner", node.owner],
    ["registered", node.owner ? "" : duration(node.registered_s * 1000)],
    ["takesPublic", t(node.accepts_public_jobs ? "yes" : "no")],
  ].filter(([, value]) => value);
  const lines = [];
  if (node.idle_message) {
    lines.push(el("p", { class: "problem" }, el("b", { text: `${word("reason", node.idle_reason)}:` }), " ", node.idle_message));
  }
  if (health.quarantine_left_s > 0) {
    lines.push(el("p", { class: "problem", text: t("quarantine", { time: duration(health.quarantine_left_s * 1000), count: health.failed_probations }) }));
  } else if (health.on_probation) lines.push(el("p", { class: "problem", text: t("probation") }));
  const configured = Object.entries(node.override.configured).map(([name, value]) => `${t(`said:${name}`)}: ${value}`);
  if (configured.length) lines.push(el("p", { class: "small quiet", text: t("configured", { what: configured.join(", ") }) }));
  return [...lines, el("dl", { class: "facts-list" }, ...facts.map(([name, value]) =>
    el("div", {}, el("dt", { text: t(`node:${name}`) }), el("dd", { text: value }))))];
}

function passedOver(node) {
  const counts = Object.entries(node.no_work_reasons).sort((a, b) => b[1] - a[1]);
  if (!counts.length) return el("p", { class: "quiet", text: t("neverPassedOver") });
  const bars = new Bars();
  bars.set(counts.map(([name, count]) => ({ name: word("veto", name), value: count, text: number(count) })));
  return bars.element;
}

function speeds(node) {
  if (!node.learned_speeds.length) return el("p", { class: "quiet", text: t("nothing") });
  const bars = new Bars();
  bars.set(node.learned_speeds.map((one) => ({
    name: `${one.src} → ${one.tgt} (${one.services.join(", ")})`, value: one.speed, text: t("timesLive", { factor: number(one.speed, 1) }),
  })));
  return bars.element;
}

function attempts(node) {
  if (!node.last_attempts.length) return el("p", { class: "quiet", text: t("nothing") });
  return el("ul", { class: "lines" }, ...node.last_attempts.map((one) => el("li", {},
    el("a", { class: "mono", href: `/dashboard?trace=${encodeURIComponent(one.job_id)}`, text: one.job_id }),
    el("span", { class: `pill ${one.end === "ok" ? "good" : one.end ? "bad" : ""}`, text: word("end", one.end ?? one.state) }),
    el("span", { class: "numbers quiet", text: one.seconds === null ? "" : duration(one.seconds * 1000) }))));
}

function isDrained({ override: { said, configured } }) { return said.drain ?? configured.drain ?? false; }

function fillIn({ override: { said } }) {
  for (const { name } of FIELDS) parts.fields[name].value = said[name] ?? "";
}

async function toggleDrain() {
  const { configured } = parts.node.override;
  if (isDrained(parts.node)) await tell({ drain: configured.drain ? false : null }, "worksAgain");
  else await tell({ drain: true }, "drained");
}

async function save(event) {
  event.preventDefault();
  const { said } = parts.node.override;
  const changes = {};
  for (const { name, read } of FIELDS) {
    const text = parts.fields[name].value.trim();
    const wanted = text === "" ? null : read(text);
    if (wanted !== (said[name] ?? null)) changes[name] = wanted;
  }
  await tell(changes, "saved");
}

async function tell(changes, done) {
  const id = shown;
  try {
    const node = await change("PATCH", path(id), changes);
    if (!node) return;
    if (shown === id) {
      draw(node);
      fillIn(node);
    }
    toast(t(done, { node: id }));
  } catch (error) {
    problem(error.message);
  }
}
