/** The talking page: puts its parts together. */

import { addTexts, language, languageName, onLanguage, t } from "../static/i18n.js";
import { Conversation } from "./conversation.js";
import { Languages } from "./languages.js";
import { Notice } from "./notice.js";
import { Player } from "./player.js";
import { Room } from "./room.js";
import { Session } from "./session.js";
import { Speaker } from "./speaker.js";
import { TEXTS } from "./texts.js";

const QUIET_REASONS = ["silence_detected", "merged", "gap_timeout"];

const find = (id) => document.getElementById(id);
addTexts(TEXTS);
document.title = t("title");

let session = null;
let withSound = true;
let problems = new Map();
let asked = null; // a room that is to be entered as soon as there is a session

const notice = new Notice(find("notice"));
const log = find("talk");

const conversation = new Conversation({
  log,
  template: find("utterance"),
  scroller: document.scrollingElement,
  onReplay: (clip) => {
    player.stop();
    player.play(clip);
  },
});

const player = new Player({
  onStart: (clip) => {
    clip.entry.classList.add("speaking");
    tellPlaying("tts_started", "ts_start_ms", clip);
    render();
  },
  onEnd: (clip) => {
    clip.entry.classList.remove("speaking");
    log.dataset.played = Number(log.dataset.played) + 1;
    tellPlaying("tts_play_ended", "ts_end_ms", clip);
    render();
  },
  onError: () => notice.say("soundFailed", {}, "warn"),
});

const speaker = new Speaker({
  button: find("microphone"),
  isPlaying: () => player.isPlaying,
  onBegin: () => {
    player.unlock();
    player.stop();
    open();
  },
  onSpeech: (samples) => session?.sendAudio(samples),
  onPause: () => session?.endUtterance(),
  onProblem: (key) => notice.say(key, {}, "bad"),
  onChange: () => render(),
});

const languages = new Languages({
  spoken: find("spoken"),
  wanted: find("wanted"),
  speaks: find("speaks"),
  hears: find("hears"),
  onChange: (isChoice) => {
    if (isChoice) session?.update(chosen());
    tellServed();
    render();
  },
});

const room = new Room({
  onEnter: (message) => {
    languages.isInRoom = room.code !== null;
    if (message) {
      player.unlock();
      open();
      askForRoom(message);
    }
    languages.show();
    tellServed();
    render();
  },
  onLeave: (message) => {
    if (message) session?.say(message);
    languages.isInRoom = room.code !== null;
    languages.show();
    tellServed();
    render();
  },
});

languages.watch();
find("swap").onclick = () => languages.swap();
find("sound").onclick = () => {
  withSound = !withSound;
  player.unlock();
  if (!withSound) player.stop();
  render();
};
onLanguage(() => {
  document.title = t("title");
  languages.show();
  room.retell();
  notice.retell();
  conversation.retell();
  render();
});
// A page that is left leaves its room at once. One that only sleeps may come back.
addEventListener("pagehide", (event) => event.persisted || session?.close("page_closed"));
render();

/** Opens the session, if there is none. */
function open() {
  if (session) return;
  const { spoken, wanted } = languages.chosen;
  session = new Session({
    url: new URL("/ws/session", location.href.replace(/^http/, "ws")),
    init: {
      client_version: "app-1",
      platform: "linguad-app",
      src_lang: spoken,
      tgt_lang: wanted,
      mode: "one_way",
      audio_format: "pcm16",
      use_binary_frame: true,
      locale: language(),
    },
    onMessage: hear,
    onState: (state, facts) => {
      document.body.dataset.session = state;
      if (state === "open") began(facts);
      else if (state === "reconnecting" && session.id) notice.say("reconnecting", {}, "warn");
      else if (state === "reconnecting" && !notice.says("refused")) notice.say("offline", {}, "warn");
      render();
    },
  });
}

function began({ isNew, lost }) {
  if (["reconnecting", "offline", "refused"].some((key) => notice.says(key))) notice.say(lost ? "lost" : "connected", {}, lost ? "warn" : "good");
  if (!isNew) return;
  conversation.beginAnew();
  problems = new Map();
  const message = asked ?? room.rejoining();
  asked = null;
  if (message) askForRoom(message);
}

function askForRoom(message) {
  const { heard, spoken } = languages.chosen;
  if (!session.say({ ...message, preferred_lang: heard || spoken })) asked = message;
}

/** The languages as the session is to have them. */
function chosen() {
  const { spoken, wanted, heard } = languages.chosen;
  const ofRoom = room.code ? { preferred_lang: heard || spoken } : {};
  return { src_lang: spoken, tgt_lang: wanted, ...ofRoom };
}

/** Takes what the server says. */
function hear(message) {
  switch (message.type) {
    case "asr_partial":
      conversation.heard(message.utterance_index, message.text, message.job_id, languages.chosen.spoken);
      break;
    case "ui_event":
      hearEvent(message);
      break;
    case "translation_result":
      show(message);
      break;
    case "missing_result": {
      const why = problems.get(message.utterance_index) ?? message.reason;
      const isQuiet = QUIET_REASONS.includes(message.reason);
      conversation.missing(message.utterance_index, isQuiet ? "" : t("failed", { why }));
      break;
    }
    case "error":
      notice.say("refused", { message: message.message }, "bad");
      break;
    default:
      room.hear(message, session.id);
  }
}

function hearEvent(event) {
  if (event.error_code === "NO_AVAILABLE_NODE" || event.event === "LANGUAGES_AVAILABLE") languages.ask();
  if (event.status === "error") problems.set(event.utterance_index, event[`hint_${language()}`] ?? event.error_code);
  if (event.event === "DISPATCHED") conversation.heard(event.utterance_index, "", event.job_id);
}

/** Text first, sound next. */
function show(result) {
  const isMine = result.session_id === session.id;
  const { spoken, wanted, heard } = languages.chosen;
  const clip = result.tts_audio && {
    audio: result.tts_audio,
    format: result.tts_format,
    group: result.group_id,
    trace: result.trace_id,
  };
  const entry = conversation.translated({
    result,
    isMine,
    name: isMine ? "" : room.nameOf(result.session_id),
    said: isMine ? spoken : "",
    meant: isMine ? wanted : heard,
    clip,
  });
  if (clip && withSound) player.play({ ...clip, entry });
}

function tellPlaying(type, moment, { group, trace }) {
  if (group && !room.code) session?.say({ type, group_id: group, trace_id: trace, [moment]: Date.now() });
}

/** Says in words when the chosen languages cannot be had, and when they can again. */
function tellServed() {
  const { spoken, wanted } = languages.chosen;
  const names = { src: languageName(spoken), tgt: languageName(wanted) };
  if (!languages.isReached) {
    if (!notice.says("reconnecting")) notice.say("offline", {}, "warn");
  } else if (languages.isEmpty) {
    notice.say("noLanguages", {}, "warn");
  } else if (!languages.isServed && !languages.isInRoom) {
    notice.say("notServed", names, "warn");
  } else if (notice.says("notServed")) {
    notice.say("served", names, "good");
  } else if (notice.says("noLanguages") || notice.says("offline")) {
    notice.clear();
  }
}

function render() {
  const { chosen: choice } = languages;
  find("swap").disabled = languages.isInRoom || !languages.serves(choice.wanted, choice.spoken);
  find("wanted-label").dataset.t = languages.isInRoom ? "iHear" : "theyHear";
  find("wanted-label").textContent = t(find("wanted-label").dataset.t);
  find("sound").setAttribute("aria-pressed", withSound);
  find("hint").textContent = t(speaker.hint);
  const isUseful = languages.isServed || languages.isInRoom;
  find("microphone").disabled = !speaker.isAllowed || !(isUseful || speaker.isOn);
}
