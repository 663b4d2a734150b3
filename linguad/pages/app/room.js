/** Rooms: the door to them, and who is in. The code of a room stands in the page's address, so the link is the key. */

import { languageName, remember, remembered, t } from "../static/i18n.js";

const NAME_AS = "linguad.name";
const CODE = /^\d{6}$/;
const COPIED_MS = 2_000;

const find = (id) => document.getElementById(id);

export class Room {
  /** `onEnter` gets the message that asks for a room, `onLeave` the one that leaves it. */
  constructor({ onEnter, onLeave }) {
    this.code = null;
    this._onEnter = onEnter;
    this._onLeave = onLeave;
    this._wanted = new URLSearchParams(location.search).get("room");
    this._names = new Map();
    this._members = null;
    find("name").value = remembered(NAME_AS, "");
    find("with-others").onclick = () => this.openDoor();
    find("create").onclick = () => this._ask({ type: "room_create", client_ts: Date.now() });
    find("join").onclick = () => this._join(find("code").value.replace(/\s/g, ""));
    find("enter").onclick = () => this._join(this._wanted);
    find("code").onkeydown = (event) => event.key === "Enter" && (event.preventDefault(), find("join").click());
    find("name").onkeydown = (event) => event.key === "Enter" && (event.preventDefault(), this._main().click());
    find("copy-link").onclick = () => this._copy();
    find("leave").onclick = () => this._leave();
    if (this._wanted) this.openDoor();
  }

  /** Shows the door, if need be with what went wrong. */
  openDoor(problem = "") {
    find("door-problem").textContent = problem;
    find("door-problem").hidden = !problem;
    this.retell();
    if (!find("door").open) find("door").showModal();
    (find("name").value ? this._main() : find("name")).focus();
  }

  /** The name of a member. */
  nameOf(sessionId) { return this._names.get(sessionId) || t("somebody"); }

  /** The message that brings a new session into the room where the last one was. */
  rejoining() { return this.code && this._message({ type: "room_join", room_code: this.code }); }

  /** Takes what the server says about rooms. */
  hear(message, ownId) {
    switch (message.type) {
      case "room_create_ack":
        this._enter(message.room_code);
        break;
      case "room_members":
        if (message.room_code === this.code) this._show(message.members, ownId);
        break;
      case "room_error":
        if (message.code === "ALREADY_IN_ROOM") break;
        if (message.code !== "ROOM_FULL") this._forget();
        this.openDoor(this._explain(message.code));
        break;
      case "room_expired":
        this._forget();
        this.openDoor(t("roomExpired"));
        break;
    }
  }

  /** Texts of the page's own language, after it changed. */
  retell() {
    find("door-title").textContent = this._wanted ? t("doorJoin", { code: spaced(this._wanted) }) : t("doorOpen");
    find("enter").hidden = !this._wanted;
    find("create").hidden = find("by-code").hidden = !!this._wanted;
    if (this._members) this._show(...this._members);
  }

  _main() { return find(this._wanted ? "enter" : "create"); }

  _join(code) {
    if (CODE.test(code)) this._ask({ type: "room_join", room_code: code });
    else this.openDoor(t("INVALID_ROOM_CODE"));
  }

  _ask(message) {
    remember(NAME_AS, find("name").value);
    find("door").close();
    this._onEnter(this._message(message));
  }

  _message(message) { return { ...message, display_name: find("name").value.trim() || undefined }; }

  _explain(code) {
    const text = t(code);
    return text === code ? t("roomFailed", { code }) : text;
  }

  _enter(code) {
    this.code = this._wanted = code;
    find("room-code").textContent = spaced(code);
    find("room").hidden = false;
    find("with-others").hidden = true;
    find("room-link").value = this._link();
    history.replaceState(null, "", this._link());
    this._onEnter(null);
  }

  _leave() {
    this._onLeave({ type: "room_leave", room_code: this.code });
    this._forget();
    find("with-others").focus();
  }

  _forget() {
    this.code = this._wanted = this._members = null;
    find("room").hidden = true;
    find("with-others").hidden = false;
    history.replaceState(null, "", location.pathname);
    this._onLeave(null);
  }

  _link() { return `${location.origin}${location.pathname}?room=${this.code}`; }

  async _copy() {
    try {
      await navigator.clipboard.writeText(this._link());
      find("copy-link").textContent = t("copied");
      setTimeout(() => { find("copy-link").textContent = t("copyLink"); }, COPIED_MS);
    } catch {
      // Browsers keep the clipboard from pages over plain http: then it can be copied by hand.
      find("room-link").hidden = false;
      find("room-link").select();
    }
  }

  _show(members, ownId) {
    this._members = [members, ownId];
    this._names = new Map(members.map((member) => [member.session_id, member.display_name]));
    const pills = members.map((member) => {
      const pill = document.createElement("li");
      const isMe = member.session_id === ownId;
      const name = this.nameOf(member.session_id);
      // Other clients hear what their session is translated to, which is not told.
      const heard = member.preferred_lang && { name, language: languageName(member.preferred_lang) };
      pill.className = isMe ? "pill me" : "pill";
      pill.textContent = heard ? t(isMe ? "me" : "member", heard) : name;
      return pill;
    });
    if (members.length === 1) {
      const alone = document.createElement("li");
      alone.className = "small quiet";
      alone.textContent = t("alone");
      pills.push(alone);
    }
    find("members").replaceChildren(...pills);
  }
}

function spaced(code) { return CODE.test(code) ? `${code.slice(0, 3)} ${code.slice(3)}` : code; }
