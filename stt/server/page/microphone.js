// The microphone: what it needs, what can go wrong with it in words that help, and its pieces of sound.

/** Why no microphone can be had on this page, or "". */
export function forbidden() {
  if (window.isSecureContext && navigator.mediaDevices) return "";
  const here = `localhost:${location.port || 80}`;
  return `Browsers give the microphone to https pages and to localhost only, and this is ${location.origin}. ` +
    `On the server's machine open http://${here}/; from another one, forward the port ` +
    `(ssh -L 15751:${here} ${location.hostname}) or give stt serve --tls-cert and --tls-key.`;
}

const WORDS = {
  NotAllowedError: "The microphone was refused. Allow it in the browser's address bar (the icon left of the address), then start again.",
  NotFoundError: "No microphone was found. Plug one in, then start again.",
  OverconstrainedError: "The chosen microphone is gone. Choose another one in the settings, then start again.",
  NotReadableError: "The microphone cannot be read; another program may hold it. Close that program, then start again.",
};

const HELD = 512; // pieces: a page that is busy for more than these 10 s loses sound

export class Microphone {
  /** `onpiece(Int16Array, peak)` gets 20 ms each, `onlost(message)` is told when the device goes away. */
  constructor(onpiece, onlost) { Object.assign(this, { onpiece, onlost }); }

  /** Open it; resolves to its rate in Hz. Throws an Error that says what to do. */
  async open({ device, echoCancellation, noiseSuppression, autoGainControl }) {
    const wanted = { echoCancellation, noiseSuppression, autoGainControl, ...(device && { deviceId: { exact: device } }) };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
      throw new Error(WORDS[error.name] ?? `The microphone cannot be opened: ${error.message}`);
    }
    this.stream.getAudioTracks()[0].onended = () => this.onlost(WORDS.NotFoundError);
    // 16 kHz is what the server needs; browsers that cannot resample a microphone use the device's own rate.
    for (const options of [{ sampleRate: 16000 }, {}]) {
      this.context = new AudioContext(options);
      try {
        this.source = this.context.createMediaStreamSource(this.stream);
        break;
      } catch {
        await this.context.close();
      }
    }
    await this.context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const size = Math.round(this.context.sampleRate / 50);
    const shared = window.crossOriginIsolated && Atomics.waitAsync && new SharedArrayBuffer(4 + 2 * size * HELD);
    const node = new AudioWorkletNode(this.context, "pieces", { numberOfOutputs: 0, processorOptions: { shared } });
    if (shared) this.reading = this.read(this.count = new Int32Array(shared, 0, 1), new Int16Array(shared, 4), size);
    else node.port.onmessage = ({ data }) => this.take(data);
    this.source.connect(node);
    return this.context.sampleRate;
  }

  /** Take pieces out of the ring into which the audio thread writes them. */
  async read(count, ring, size) {
    for (let read = 0;;) {
      const there = Atomics.load(count, 0);
      for (read = Math.max(read, there - HELD); read < there; read++) {
        const at = read % HELD * size;
        this.take(ring.slice(at, at + size));
      }
      if (this.closed) return;
      await Atomics.waitAsync(count, 0, there).value;
    }
  }

  take(piece) {
    this.onpiece(piece, piece.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0) / 32767);
  }

  /** Silence comes instead of sound while it is muted. */
  mute(muted) {
    for (const track of this.stream.getAudioTracks()) track.enabled = !muted;
  }

  async close() {
    for (const track of this.stream?.getTracks() ?? []) { track.onended = null; track.stop(); }
    if (this.context?.state !== "closed") await this.context?.close();
    this.closed = true;
    if (this.count) Atomics.notify(this.count, 0);
    await this.reading;
  }
}

/** Microphones that can be chosen; their names are known once one was allowed. */
export async function devices() {
  const all = await navigator.mediaDevices?.enumerateDevices() ?? [];
  return all.filter((one) => one.kind === "audioinput" && one.deviceId && one.deviceId !== "default");
}
