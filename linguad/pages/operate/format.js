/** Numbers and times as people read them, in the language of the page. */

import { language, languageName, t } from "/pages/static/i18n.js";

export const NONE = "–";

/** A number with so many digits behind the point at most. */
export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  return value.toLocaleString(language(), { maximumFractionDigits: digits });
}

/** So many of a kind, such as "1 job"; kinds are those of the texts. */
export function count(kind, value) { return t(`${value === 1 ? "one" : "many"}:${kind}`, { count: number(value) }); }

/** Parts of one as %. */
export function percent(part, digits = 0) {
  return part === null || part === undefined
    ? NONE
    : part.toLocaleString(language(), { style: "percent", maximumFractionDigits: digits });
}

/** A time in ms, in the unit that fits. */
export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 10) return `${number(ms, 1)} ms`;
  if (ms < 1000) return `${number(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${number(s, s < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return t("minutes", { minutes, seconds: Math.floor(s % 60) });
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return t("hours", { hours, minutes: minutes % 60 });
  return t("days", { days: Math.floor(hours / 24), hours: hours % 24 });
}

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

/** Bytes in the unit that fits, by 1024. */
export function bytes(value) {
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, unit && value < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** The hour and minute of a Unix time in ms, the seconds if asked for. */
export function clock(ms, seconds = false) {
  const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds && { second: "2-digit" }) };
  return new Date(ms).toLocaleTimeString(language(), parts);
}

/** A word of the server, such as a reason, in the language of the page; itself if none is known. */
export function word(kind, value) {
  const key = `${kind}:${value}`;
  const said = t(key);
  return said === key ? String(value) : said;
}

/** A language with its code; `*` and auto are any. */
export function tongue(code) {
  if (code === "*" || code === "auto") return t("anyLanguage");
  const name = languageName(code);
  return name === code ? code : `${name} (${code})`;
}

/** Words of a list that are shown. */
const FEW = 6;

/** The first of some words, and how many more there are. */
export function few(words) {
  const more = words.length - FEW;
  return more > 1 ? `${words.slice(0, FEW).join(", ")} +${more}` : words.join(", ");
}

/** A pair of languages, short. */
export function pair(src, tgt) { return `${src === "*" ? t("anyLanguage") : src} → ${tgt}`; }
