/** The first page: the ten seconds at the top, then everything about nodes, sessions and single sentences. */

import { onLanguage } from "/pages/static/i18n.js";
import { el, section } from "./dom.js";
import { health } from "./health.js";
import { history } from "./history.js";
import { nodes, pools, sessions } from "./lists.js";
import { Matrix } from "./matrix.js";
import { follow, overview } from "./news.js";
import { asking } from "./part.js";
import { outcomes, quality, stages } from "./quality.js";
import { tiles } from "./tiles.js";
import { trace } from "./trace.js";
import { failing, waiting } from "./trouble.js";

/** Fills the page. */
export function open(page) {
  const matrix = new Matrix();
  const room = section("room", "whoHasRoom", matrix.element);
  const parts = { tiles: tiles(), waiting: waiting(), failing: failing(), outcomes: outcomes(), stages: stages() };
  const past = history(), sure = quality(), line = trace();
  const known = nodes(), people = sessions(line.open), pooled = pools();

  page.append(
    health(), parts.tiles.element,
    el("div", { class: "columns three" }, parts.waiting.element, room, parts.failing.element),
    el("div", { class: "columns two" }, past.element, el("div", { class: "stack" }, parts.stages.element, parts.outcomes.element)),
    line.element, known.element, people.element,
    el("div", { class: "columns two" }, pooled.element, sure.element),
  );

  const draw = (told) => {
    for (const part of Object.values(parts)) part.set(told);
    matrix.set(told.pairs, told.waiting);
    pooled.room(told.pairs);
  };
  follow(draw);
  onLanguage(() => overview && draw(overview));

  asking(past.element, "/api/v1/history", 60, (told) => {
    parts.tiles.remember(told);
    past.set(told);
  }, true);
  asking(known.element, "/api/v1/nodes", 5, known.set);
  asking(people.element, "/api/v1/sessions?limit=1000", 5, people.set);
  asking(pooled.element, "/api/v1/pools?limit=100", 10, pooled.set);
  asking(sure.element, "/api/v1/metrics", 10, sure.set);

  const asked = new URLSearchParams(location.search).get("trace");
  if (asked) line.open(asked);
}
