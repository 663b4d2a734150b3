/**
 * A session of `/ws/session` that outlives its connections (docs/sessions.md).
 *
 * What is said goes in the order in which it was said, over whichever connection; audio is kept until the server
 * has its results acknowledged, and what a new connection lacks is sent again.
 */

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8_000;
const BEAT_MS = 10_000;
const SILENT_MS = 35_000; // without any frame the line is dead
const KEPT_BYTES = 4 * 2 ** 20; // two minutes of PCM16
const CHUNK_HEADER = 12;

export class Session {
  /** `onMessage` gets what the server says, `onState` one of connecting, open, reconnecting, closed. */
  constructor({ url, init, onMessage, onState }) {
    this.id = null;
    this.state = "connecting";
    this._url = url;
    this._init = init;
    this._onMessage = onMessage;
    this._onState = onState;
    this._socket = null;
    this._token = null;
    this._delivery = 0;
    this._seq = 0;
    this._kept = [];
    this._keptBytes = 0;
    this._sentSeq = -1;
    this._lostSeq = -1;
    this._pausedUntil = 0;
    this._updating = null;
    this._pause = FIRST_PAUSE_MS;
    this._retry = null;
    this._online = () => this.state === "reconnecting" && this._connect();
    addEventListener("online", this._online);
    this._connect();
  }

  /** Sends samples of the microphone, 16 bit at 16 kHz. */
  sendAudio(samples) { this._keep(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), false); }

  /** Ends the running utterance. */
  endUtterance() { this._keep(new Uint8Array(0), true); }

  /** Changes the languages from the next utterance on; a session after this one begins with them. */
  update(languages) {
    const { preferred_lang, ...ofSession } = languages;
    Object.assign(this._init, ofSession);
    this._updating = { type: "session_update", ...languages };
    this.say(this._updating);
  }

  /** Sends a message over the connection that there is; true if there is one. */
  say(message) {
    if (this.state !== "open" || this._socket.readyState !== WebSocket.OPEN) return false;
    this._socket.send(JSON.stringify({ session_id: this.id, ...message }));
    return true;
  }

  /** Ends the session. */
  close(reason = "client_disconnect") {
    this.say({ type: "session_close", reason });
    removeEventListener("online", this._online);
    clearTimeout(this._retry);
    this._become("closed");
    this._socket.close();
  }

  _become(state, facts = {}) {
    this.state = state;
    this._onState(state, facts);
  }

  _connect() {
    clearTimeout(this._retry);
    const socket = new WebSocket(this._url);
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    const resume = this._token
      ? { session_id: this.id, resume_token: this._token, delivery: this._delivery }
      : {};
    socket.onopen = () => socket.send(JSON.stringify({ ...this._init, type: "session_init", resume }));
    socket.onmessage = ({ data }) => {
      socket.heardAt = Date.now();
      if (socket === this._socket) this._hear(JSON.parse(data));
    };
    socket.onclose = () => {
      clearInterval(socket.beats);
      if (socket === this._socket && this.state !== "closed") this._lost();
    };
    socket.heardAt = Date.now();
    socket.beats = setInterval(() => this._beat(socket), BEAT_MS);
  }

  _beat(socket) {
    if (Date.now() - socket.heardAt < SILENT_MS) {
      this.say({ type: "client_heartbeat", timestamp: Date.now() });
      return;
    }
    // A dead line may take minutes to close.
    clearInterval(socket.beats);
    socket.onclose = null;
    socket.close();
    if (socket === this._socket && this.state !== "closed") this._lost();
  }

  _lost() {
    this._become("reconnecting");
    this._retry = setTimeout(() => this._connect(), this._pause * (0.5 + Math.random() / 2));
    this._pause = Math.min(2 * this._pause, LONGEST_PAUSE_MS);
  }

  _hear(message) {
    switch (message.type) {
      case "session_init_ack":
        this._begin(message);
        return;
      case "translation_result":
      case "missing_result":
        if (message.delivery <= this._delivery) return;
        this._delivery = message.delivery ?? this._delivery;
        this.say({ type: "result_ack", delivery: this._delivery });
        break;
      case "audio_ack":
        while (this._kept.length && this._kept[0].seq <= message.seq) this._drop();
        return;
      case "session_update_ack":
        this._updating = null;
        return;
      case "backpressure":
        this._pausedUntil = Date.now() + message.resume_after_ms;
        setTimeout(() => this._flush(), message.resume_after_ms);
        return;
    }
    this._onMessage(message);
  }

  _begin(ack) {
    const isNew = !ack.recovered;
    const received = isNew ? -1 : (ack.audio_seq ?? -1);
    this.id = ack.session_id;
    this._token = ack.resume_token ?? null;
    if (isNew) this._delivery = 0;
    this._sentSeq = received;
    this._pause = FIRST_PAUSE_MS;
    const lost = this._lostSeq > received;
    this._lostSeq = -1;
    this._become("open", { isNew, lost });
    if (this._updating && !isNew) this.say(this._updating);
    this._flush();
  }

  _keep(audio, isFinal) {
    if (this.state === "closed") return;
    this._kept.push({ seq: this._seq++, audio, isFinal, at: Date.now() });
    this._keptBytes += audio.length;
    this._flush();
    while (this._keptBytes > KEPT_BYTES) {
      this._lostSeq = this._kept[0].seq;
      this._drop();
    }
  }

  _drop() { this._keptBytes -= this._kept.shift().audio.length; }

  _flush() {
    if (this.state !== "open" || this._socket.readyState !== WebSocket.OPEN || Date.now() < this._pausedUntil) return;
    for (const chunk of this._kept) {
      if (chunk.seq <= this._sentSeq) continue;
      this._socket.send(frame(this.id, chunk));
      this._sentSeq = chunk.seq;
    }
  }
}

/** A binary audio frame (docs/sessions.md, "Binary audio"). */
function frame(sessionId, { seq, audio, isFinal, at }) {
  const id = new TextEncoder().encode(sessionId);
  const bytes = new Uint8Array(CHUNK_HEADER + id.length + audio.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 1);
  view.setUint8(1, id.length);
  view.setUint32(2, seq, true);
  view.setUint32(6, at % 2 ** 32, true);
  view.setUint8(10, isFinal ? 1 : 0);
  bytes.set(id, CHUNK_HEADER);
  bytes.set(audio, CHUNK_HEADER + id.length);
  return bytes;
}
