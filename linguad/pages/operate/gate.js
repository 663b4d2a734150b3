/** Before the pages: where the admin token is given once, or what to set so that it can be. */

import { addTexts, t } from "/pages/static/i18n.js";
import { enter } from "./api.js";
import { TEXTS } from "./texts.js";

addTexts(TEXTS);
document.title = `${t("gateTitle")} · Lingua`;

const form = document.getElementById("gate");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = document.getElementById("gate-problem");
  problem.hidden = true;
  try {
    await enter(document.getElementById("gate-token").value);
    location.reload();
  } catch (error) {
    problem.textContent = error.status === 401 ? t("wrongToken") : error.message;
    problem.hidden = false;
  }
});
