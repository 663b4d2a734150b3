/** The frame of all pages of operators: which one it is, whether its numbers are new, the pause, short news. */

import { addTexts, onLanguage, show, t } from "/pages/static/i18n.js";
import { say } from "./dom.js";
import { follow, onState, setPaused, start } from "./news.js";
import { TEXTS } from "./texts.js";

const PAGES = {
  "/dashboard": () => import("./dashboard.js"),
  "/cluster": () => import("./cluster.js"),
  "/compute-power": () => import("./compute-power.js"),
  "/models": () => import("./models.js"),
  "/languages": () => import("./languages.js"),
};

addTexts(TEXTS);

const path = location.pathname;
const news = document.getElementById("news");
const pause = document.getElementById("pause");

for (const link of document.querySelectorAll("nav a")) {
  if (link.getAttribute("href") !== path) continue;
  link.setAttribute("aria-current", "page");
  link.scrollIntoView({ block: "nearest", inline: "center" });
}

pause.addEventListener("click", () => {
  const wanted = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(wanted));
  setPaused(wanted);
});

onState((state) => {
  news.dataset.news = state;
  say(news.lastElementChild, t(`news:${state}`));
});
follow(() => { document.body.dataset.heard = ""; });
onLanguage(() => {
  title();
  say(news.lastElementChild, t(`news:${news.dataset.news}`));
});

title();
const page = await PAGES[path]();
page.open(document.getElementById("page"));
show();
start();
document.body.dataset.ready = "";

function title() { document.title = `${t(path.slice(1))} · Lingua`; }
