/**
 * Tells speech from silence, so that silence is not sent and a pause ends a sentence.
 *
 * The loudness of silence is learned: it sinks at once to the quietest piece heard, and rises slowly.
 */

const QUIETEST = 0.006; // root mean square, full scale being 1
const ABOVE_NOISE = 3;
const RISE = 1.03; // per piece of 100 ms
const BEFORE = 3; // pieces that are sent of the silence before speech: it may begin softly
const PAUSE = 8; // silent pieces that end a sentence

export class Gate {
  constructor() { this.reset(); }

  /** Begin anew, as with a new microphone. */
  reset() {
    this.isOpen = false;
    this._noise = QUIETEST / ABOVE_NOISE;
    this._before = [];
    this._silent = 0;
  }

  /** What to send now that this piece was heard, and whether the sentence ends with it. */
  hear(samples, loudness) {
    const isSpeech = loudness > Math.max(QUIETEST, ABOVE_NOISE * this._noise);
    this._noise = Math.min(loudness, this._noise * RISE);
    this._noise = Math.max(this._noise, QUIETEST / ABOVE_NOISE / 4);
    if (!this.isOpen && !isSpeech) {
      this._before.push(samples);
      if (this._before.length > BEFORE) this._before.shift();
      return { send: [], ends: false };
    }
    const send = [...this._before, samples];
    this._before = [];
    this._silent = isSpeech ? 0 : this._silent + 1;
    this.isOpen = this._silent < PAUSE;
    if (!this.isOpen) this._silent = 0;
    return { send, ends: !this.isOpen };
  }
}
