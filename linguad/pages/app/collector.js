/** Gathers the microphone's signal to pieces of 100 ms, 16 bit at 16 kHz, each with its loudness. */

const RATE = 16_000;
const PIECE = RATE / 10;

class Collector extends AudioWorkletProcessor {
  constructor() {
    super();
    this._step = sampleRate / RATE; // 1 where the browser already resamples
    this._sum = this._count = this._position = 0;
    this._begin();
  }

  process([[signal = []]]) {
    for (const value of signal) {
      this._sum += value;
      this._count++;
      this._position++;
      if (this._position >= this._step) {
        this._take(this._sum / this._count);
        this._position -= this._step;
        this._sum = this._count = 0;
      }
    }
    return true;
  }

  _take(value) {
    this._squares += value * value;
    this._samples[this._filled++] = Math.max(-1, Math.min(1, value)) * 32767;
    if (this._filled < PIECE) return;
    this.port.postMessage({ samples: this._samples, loudness: Math.sqrt(this._squares / PIECE) }, [this._samples.buffer]);
    this._begin();
  }

  _begin() {
    this._samples = new Int16Array(PIECE);
    this._filled = this._squares = 0;
  }
}

registerProcessor("collector", Collector);
