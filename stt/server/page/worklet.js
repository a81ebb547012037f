// Runs in the audio thread: mono samples to PCM16, handed out in pieces of 20 ms.
//
// Nothing is allocated here: in Chromium what an audio thread throws away stays for a long time. A piece is copied as it
// is posted (to hand over its buffer would leave an object behind for each), and its memory used again.
class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate / 50));
    this.filled = 0;
  }

  process([channels]) {
    const count = channels.length;
    const frames = count ? channels[0].length : 0;
    for (let i = 0; i < frames; i++) {
      let sum = 0;
      for (let c = 0; c < count; c++) sum += channels[c][i];
      this.piece[this.filled++] = Math.round(Math.max(-1, Math.min(1, sum / count)) * 32767);
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece);
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("pieces", Pieces);
