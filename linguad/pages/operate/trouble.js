/** Who waits, and which nodes get no work: two short lists, the worst first. */

import { t } from "/pages/static/i18n.js";
import { el, say, section } from "./dom.js";
import { count, duration, number, pair, word } from "./format.js";
import { openNode } from "./node.js";

/** A list whose lines keep their elements: `set` takes rows, `key` names one, `write` fills in what `make` made. */
class Lines {
  #lines = new Map();
  element = el("ul", { class: "lines" });

  constructor(key, make, write) {
    Object.assign(this, { key, make, write });
  }

  set(rows) {
    const before = this.#lines;
    this.#lines = new Map();
    for (const row of rows) {
      const line = before.get(this.key(row)) ?? this.make(row);
      this.write(line, row);
      this.#lines.set(this.key(row), line);
    }
    const wanted = [...this.#lines.values()].map((line) => line.element);
    if (wanted.length !== this.element.children.length || wanted.some((one, at) => this.element.children[at] !== one)) {
      this.element.replaceChildren(...wanted);
    }
  }
}

/** Who waits for a node. */
export function waiting() {
  const none = el("p", { class: "empty quiet", "data-t": "nobodyWaits" });
  const more = el("p", { class: "small quiet" });
  const lines = new Lines(
    (queue) => `${queue.src}\n${queue.tgt}\n${queue.services}\n${queue.node_id}`,
    () => {
      const [name, what, jobs, age] = [el("b"), el("span", { class: "pill" }), el("span", { class: "numbers" }), el("span", { class: "numbers quiet" })];
      return { name, what, jobs, age, element: el("li", {}, name, what, jobs, age) };
    },
    (line, queue) => {
      say(line.name, pair(queue.src, queue.tgt));
      line.what.className = `pill ${queue.ready_nodes ? "warn" : "bad"}`;
      say(line.what, queue.ready_nodes ? t("busy") : queue.node_id ? t("pairedAway", { node: queue.node_id }) : t("nobodyCan"));
      say(line.jobs, count("jobs", queue.jobs));
      say(line.age, duration(queue.oldest_s * 1000));
    },
  );
  const element = section("waiting", "whoWaits", none, lines.element, more);
  return {
    element,
    set({ waiting: queues, waiting_kinds: kinds }) {
      lines.set(queues);
      none.hidden = queues.length > 0;
      say(more, kinds > queues.length ? t("more", { count: number(kinds - queues.length) }) : "");
    },
  };
}

/** Nodes that get no work. */
export function failing() {
  const none = el("p", { class: "empty quiet", "data-t": "allWork" });
  const more = el("p", { class: "small quiet" });
  const lines = new Lines(
    (one) => one.node_id,
    (one) => {
      const name = el("button", { type: "button", class: "link mono", text: one.node_id, onclick: () => openNode(one.node_id) });
      const [what, age] = [el("span", { class: "pill" }), el("span", { class: "numbers quiet" })];
      return { what, age, element: el("li", {}, name, what, age) };
    },
    (line, one) => {
      line.what.className = `pill ${one.status === "offline" || one.status === "degraded" ? "bad" : "warn"}`;
      say(line.what, word("reason", one.reason));
      say(line.age, duration(one.heartbeat_age_s * 1000));
    },
  );
  const element = section("failing", "withoutWork", none, lines.element, more);
  return {
    element,
    set({ failing: nodes, failing_count: count }) {
      lines.set(nodes);
      none.hidden = nodes.length > 0;
      say(more, count > nodes.length ? t("more", { count: number(count - nodes.length) }) : "");
    },
  };
}
