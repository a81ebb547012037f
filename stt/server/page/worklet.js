// Runs in the audio thread: mono samples to PCM16, handed out in pieces of 20 ms.
//
// Nothing is allocated here: in Chromium what an audio thread throws away stays for hours, and each message leaves
// something behind. So pieces go through memory that the page shares, where the browser has that.
class Pieces extends AudioWorkletProcessor {
  /** `shared`: the number of pieces so far (int32), and a ring of pieces. */
  constructor({ processorOptions: { shared } }) {
    super();
    this.size = Math.round(sampleRate / 50);
    this.count = shared && new Int32Array(shared, 0, 1);
    this.ring = shared ? new Int16Array(shared, 4) : new Int16Array(this.size);
    this.at = 0;
  }

  process([channels]) {
    const count = channels.length;
    const frames = count ? channels[0].length : 0;
    for (let i = 0; i < frames; i++) {
      let sum = 0;
      for (let c = 0; c < count; c++) sum += channels[c][i];
      this.ring[this.at++] = Math.round(Math.max(-1, Math.min(1, sum / count)) * 32767);
      if (this.at % this.size === 0) this.hand();
    }
    return true;
  }

  hand() {
    if (this.at === this.ring.length) this.at = 0;
    if (!this.count) return this.port.postMessage(this.ring);
    Atomics.add(this.count, 0, 1);
    Atomics.notify(this.count, 0);
  }
}
registerProcessor("pieces", Pieces);
