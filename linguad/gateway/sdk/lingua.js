/**
 * Speech translation in the browser: one dependency-free ES module over `/v1/stream` of linguad.
 *
 *   import * as lingua from "/sdk/lingua.js";
 *   const session = await lingua.startSession({ ticket, from: "en", to: "es" });
 *   session.onResult((result) => console.log(result.textAsr, "→", result.text));
 *   session.sendAudioChunk(int16Samples);
 *   await session.close();
 *
 * `ticket` is what `POST /v1/stream/tickets` of your own server's key gives, or better an async function that
 * fetches one: a ticket opens one connection, and only with a new one can a lost connection be replaced.
 * Audio without an answer is kept and sent again on the next connection, so that nothing said is lost.
 * Types are in lingua.d.ts.
 */

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;
const KEPT_SECONDS = 120;
const PING_MS = 20_000;
const SAMPLE_RATE = 16_000;

/** Errors that the same request would meet again; others are worth another connection. */
export class LinguaError extends Error {
  constructor(code, message, retryable = false, details = undefined) {
    super(message);
    this.name = "LinguaError";
    this.code = code;
    this.retryable = retryable;
    this.details = details;
  }
}

/** Opens a session; resolves when the server has said `started`, rejects with a LinguaError. */
export async function startSession(options) {
  const session = new Session(options);
  await session._open();
  return session;
}

class Session {
  constructor({
    ticket,
    url = undefined,
    from,
    to,
    audioFormat = "pcm16",
    sampleRate = SAMPLE_RATE,
    outputFormat = "wav",
    partials = true,
    speech = true,
    start = {},
  }) {
    if (!ticket) throw new LinguaError("missing_ticket", "Give startSession a ticket, or a function that fetches one.");
    this._ticket = ticket;
    this._url = new URL(url ?? "/v1/stream", globalThis.location?.href);
    this._url.protocol = this._url.protocol.replace("http", "ws");
    this._start = {
      type: "start",
      src_lang: from,
      tgt_lang: to,
      audio_format: audioFormat,
      sample_rate: sampleRate,
      output_format: outputFormat,
      segmentation: "stream",
      partials,
      tts: speech,
      acks: true,
      ...start,
    };
    this._bytesPerSecond = audioFormat === "pcm16" ? sampleRate * 2 : 4000;
    this._listeners = { result: new Set(), partial: new Set(), error: new Set(), state: new Set() };
    /** Messages without an answer, oldest first; what `audio_ack` names is dropped. */
    this._kept = [];
    this._keptBytes = 0;
    this._seq = 0;
    this._socket = null;
    this._pause = FIRST_PAUSE_MS;
    this._ending = null;
    this.state = "connecting";
    this.id = null;
  }

  /** Calls `listener` with every translated utterance; returns a function that takes it off again. */
  onResult(listener) { return this._on("result", listener); }
  /** Calls `listener` with what was understood so far. */
  onPartial(listener) { return this._on("partial", listener); }
  /** Calls `listener` with a LinguaError of an utterance, or of the session when it cannot go on. */
  onError(listener) { return this._on("error", listener); }
  /** Calls `listener` with `connecting`, `open`, `reconnecting` or `closed`. */
  onState(listener) { return this._on("state", listener); }

  /**
   * Sends a piece of the microphone's signal: an Int16Array or Float32Array of samples at the session's rate,
   * or bytes (ArrayBuffer, Uint8Array) in the session's format.
   */
  sendAudioChunk(chunk) { this._keep({ chunk: base64(bytesOf(chunk)) }); }

  /** Ends the running utterance at once, as when a button is let go. */
  endUtterance() { this._keep({ chunk: "", is_final: true }); }

  /** Ends the session after its last result; resolves when the server has said so. */
  close() {
    if (this.state === "closed") return Promise.resolve();
    this._ending ??= promise();
    this._say({ type: "end", close: true });
    return this._ending.done;
  }

  _on(name, listener) {
    this._listeners[name].add(listener);
    return () => this._listeners[name].delete(listener);
  }

  _tell(name, value) {
    for (const listener of this._listeners[name]) {
      try {
        listener(value);
      } catch (error) {
        // a listener's bug is not the session's
        globalThis.reportError ? reportError(error) : console.error(error);
      }
    }
  }

  _become(state) {
    if (this.state === state) return;
    this.state = state;
    this._tell("state", state);
  }

  _keep(message) {
    if (this.state === "closed" || this._ending) throw new LinguaError("closed", "The session is over; start another one.");
    const kept = { type: "audio", seq: this._seq++, ...message };
    this._kept.push(kept);
    this._keptBytes += kept.chunk.length * 0.75;
    while (this._keptBytes > KEPT_SECONDS * this._bytesPerSecond && this._kept.length > 1) this._forget();
    this._say(kept);
  }

  _forget() { this._keptBytes -= this._kept.shift().chunk.length * 0.75; }

  _say(message) {
    if (this.state === "open" && this._socket.readyState === WebSocket.OPEN) this._socket.send(JSON.stringify(message));
  }

  async _open() {
    const ticket = typeof this._ticket === "function" ? await this._ticket() : this._ticket;
    const url = new URL(this._url);
    url.searchParams.set("ticket", ticket);
    const started = promise();
    const socket = new WebSocket(url);
    this._socket = socket;
    socket.onopen = () => socket.send(JSON.stringify(this._start));
    socket.onmessage = (event) => this._hear(JSON.parse(event.data), started);
    socket.onclose = (event) => {
      clearInterval(socket.pings);
      started.fail(new LinguaError("connection_lost", event.reason || "The connection was closed.", mayRetry(event.code)));
      if (socket === this._socket && this.state === "open") this._lost(event);
    };
    try {
      await started.done;
    } catch (error) {
      socket.close();
      throw error;
    }
    socket.pings = setInterval(() => this._say({ type: "ping" }), PING_MS);
    this._pause = FIRST_PAUSE_MS;
    this._become("open");
    for (const message of this._kept) this._say(message);
    if (this._ending) this._say({ type: "end", close: true });
  }

  _lost(event) {
    if (typeof this._ticket !== "function" || !mayRetry(event.code)) {
      this._end(new LinguaError("connection_lost", event.reason || "The connection was closed.", true));
      return;
    }
    this._become("reconnecting");
    const again = async () => {
      if (this.state !== "reconnecting") return;
      try {
        await this._open();
      } catch (error) {
        if (error instanceof LinguaError && !error.retryable) this._end(error);
        else setTimeout(again, this._nextPause());
      }
    };
    setTimeout(again, this._nextPause());
  }

  _nextPause() {
    const pause = this._pause * (0.5 + Math.random() / 2);
    this._pause = Math.min(2 * this._pause, LONGEST_PAUSE_MS);
    return pause;
  }

  _end(error) {
    this._become("closed");
    this._kept = [];
    this._socket.close();
    if (error) this._tell("error", error);
    this._ending?.keep();
  }

  _hear(message, started) {
    switch (message.type) {
      case "started":
        this.id = message.session_id;
        started.keep();
        break;
      case "final":
        this._tell("result", {
          index: message.utterance_index,
          text: message.text,
          textAsr: message.text_asr,
          audio: fromBase64(message.audio),
          audioFormat: message.tts_format,
          sampleRate: message.tts_sample_rate ?? SAMPLE_RATE,
          durationMs: message.duration_ms,
          language: message.src_lang_detected ?? null,
        });
        break;
      case "partial":
        this._tell("partial", { index: message.utterance_index, text: message.text, isFinal: message.is_final });
        break;
      case "audio_ack":
        while (this._kept.length && this._kept[0].seq <= message.seq) this._forget();
        break;
      case "error": {
        const error = new LinguaError(message.code, message.message, message.retryable, message.details);
        started.fail(error);
        this._tell("error", error);
        break;
      }
      case "ended":
        this._end(this._ending ? null : new LinguaError("ended", `The server ended the session: ${message.reason}.`, true));
        break;
    }
  }
}

/**
 * Listens to the microphone and calls `onChunk` with Int16Array pieces of 100 ms at 16 kHz; needs https or
 * localhost. Returns a function that stops it.
 */
export async function captureMicrophone(onChunk, constraints = { echoCancellation: true, noiseSuppression: true }) {
  if (!navigator.mediaDevices) {
    throw new LinguaError("no_microphone", "Browsers give the microphone only to pages from https or localhost.");
  }
  const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
  const context = new AudioContext({ sampleRate: SAMPLE_RATE });
  const worklet = URL.createObjectURL(new Blob([COLLECTOR], { type: "text/javascript" }));
  await context.audioWorklet.addModule(worklet);
  URL.revokeObjectURL(worklet);
  const collector = new AudioWorkletNode(context, "lingua-collector", { numberOfOutputs: 0 });
  collector.port.onmessage = (event) => onChunk(event.data);
  context.createMediaStreamSource(stream).connect(collector);
  return async () => {
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
  };
}

const COLLECTOR = `
registerProcessor("lingua-collector", class extends AudioWorkletProcessor {
  constructor() { super(); this.samples = new Int16Array(1600); this.filled = 0; }
  process(inputs) {
    for (const value of inputs[0][0] ?? []) {
      this.samples[this.filled++] = Math.max(-1, Math.min(1, value)) * 32767;
      if (this.filled === this.samples.length) { this.port.postMessage(this.samples.slice()); this.filled = 0; }
    }
    return true;
  }
});`;

/** Plays the speech of a result; resolves when it was heard. Needs a session with outputFormat "wav" or "ogg_opus". */
export async function play(result, context = new AudioContext()) {
  if (!result.audio.length) return;
  const source = context.createBufferSource();
  source.buffer = await context.decodeAudioData(result.audio.buffer.slice(0));
  source.connect(context.destination);
  await new Promise((done) => {
    source.onended = done;
    source.start();
  });
}

/** Codes of closing after which another connection may work: restarts, lost lines, idle times. */
function mayRetry(code) { return [1001, 1005, 1006, 1011, 1012, 1013, 4408].includes(code); }

function promise() {
  let keep, fail;
  const done = new Promise((resolve, reject) => { keep = resolve; fail = reject; });
  done.catch(() => {});
  return { done, keep, fail };
}

function bytesOf(chunk) {
  if (chunk instanceof Float32Array) {
    const samples = new Int16Array(chunk.length);
    chunk.forEach((value, index) => { samples[index] = Math.max(-1, Math.min(1, value)) * 32767; });
    return new Uint8Array(samples.buffer);
  }
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

function base64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  return btoa(text);
}

function fromBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let index = 0; index < characters.length; index++) bytes[index] = characters.charCodeAt(index);
  return bytes;
}
