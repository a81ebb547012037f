// Runs in the audio thread: mono samples to PCM16 in pieces of 20 ms, with the peak of each.
class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate / 50));
    this.filled = 0;
    this.peak = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const value = Math.max(-1, Math.min(1, sum / channels.length));
      this.peak = Math.max(this.peak, Math.abs(value));
      this.piece[this.filled++] = Math.round(value * 32767);
      if (this.filled === this.piece.length) {
        const pcm = this.piece.slice();
        this.port.postMessage({ pcm, peak: this.peak }, [pcm.buffer]);
        this.filled = this.peak = 0;
      }
    }
    return true;
  }
}
registerProcessor("pieces", Pieces);
