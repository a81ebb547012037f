// Listening: microphone, session, transcript and timeline, and the controls that start and stop them.

import { Microphone, devices, forbidden } from "./microphone.js";
import { save } from "./save.js";
import { LISTENING, Session } from "./session.js";
import { asked, offer, sound, watch } from "./settings.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";

const PAUSED = "Paused: the microphone is not heard.";
const $ = (id) => document.getElementById(id);

export class Live {
  constructor(page) {
    this.page = page;
    this.transcript = new Transcript($("scroll"), $("turns"), $("empty"), $("spoken"));
    this.timeline = new Timeline($("timeline"));
    const clicked = {
      listen: () => this.toggle(),
      mute: () => this.mute(),
      flush: () => this.flush(),
      copy: () => page.copy(this.transcript.turns.map((turn) => turn.text).join("\n")),
      save: () => save("transcript", this.transcript.turns, $("format").value),
      clear: () => this.transcript.clear(),
    };
    for (const name in clicked) $(name).onclick = clicked[name];
    addEventListener("resize", () => this.timeline.draw());
    watch((what) => this.session && (what === "asked" ? this.session.configure(asked()) : this.reopen()));
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
    this.list();
  }

  async list() { offer(await devices()); }

  async toggle() {
    if (this.busy) return;
    this.busy = true;
    try { await (this.session ? this.stop() : this.start()); } finally { this.busy = false; }
  }

  async start() {
    this.page.notice(forbidden());
    if (forbidden()) return;
    this.page.state("Opening the microphone…");
    let rate;
    try {
      rate = await this.open();
    } catch (error) {
      return this.fail(error.message);
    }
    const on = {
      state: (text) => this.page.state(this.muted && text === LISTENING ? PAUSED : text),
      event: (message) => this.take(message),
      failed: (code, text) => this.fail(text, code),
    };
    this.last = this.session = new Session(rate, asked(), this.page.key, this.last, on);
    this.show(true);
    await this.list();
  }

  async open() {
    this.microphone = new Microphone((pcm, peak) => {
      $("level").value = peak;
      $("clipping").classList.toggle("shown", peak >= 0.99);
      this.session?.feed(pcm);
      if (this.session) this.timeline.level(this.session.now(), peak);
    }, (text) => this.fail(text));
    return this.microphone.open(sound());
  }

  /** The session goes on with other sound. */
  async reopen() {
    await this.microphone.close();
    try {
      if ((await this.open()) !== this.session.rate) { await this.stop(); await this.start(); }
      else this.microphone.mute(this.muted);
    } catch (error) {
      await this.fail(error.message);
    }
  }

  async stop() {
    await this.microphone?.close();
    this.microphone = undefined;
    const ending = this.session;
    this.session = undefined;
    this.show(false);
    if (!ending || ending.stopped) return;
    const patience = setTimeout(() => ending.stop(), 30000);
    this.page.state("Waiting for the last words…");
    if (ending.socket.readyState > WebSocket.OPEN) ending.stop();
    else await ending.finish();
    clearTimeout(patience);
    this.page.state("Stopped.");
    if (ending.stopped) this.page.notice("The server is gone: what was said last was not heard to its end.");
  }

  show(listening) {
    $("listen").textContent = listening ? "Stop" : "Start listening";
    $("flush").disabled = $("mute").disabled = !listening;
    this.paint(false);
    if (listening) return;
    $("level").value = 0;
    $("clipping").classList.remove("shown");
  }

  /** Pause and go on: silence is sent meanwhile, so that a turn that runs comes to its end. */
  mute() {
    if (!this.session) return;
    this.paint(!this.muted);
    this.microphone.mute(this.muted);
    this.page.state(this.muted ? PAUSED : LISTENING);
  }

  paint(muted) {
    this.muted = muted;
    $("mute").textContent = muted ? "Go on" : "Pause";
    $("mute").setAttribute("aria-pressed", muted);
  }

  flush() { this.session?.command({ type: "flush" }); }

  take(message) {
    if (message.error) this.page.notice(message.error);
    this.transcript.take(message);
    this.timeline.take(message);
    if (message.late_s === undefined || message.text === undefined) return;
    $(message.isFinal ? "final-latency" : "interim-latency").textContent = `${message.late_s.toFixed(2)} s`;
  }

  async fail(text, code) {
    await this.stop();
    this.page.state("Not listening.");
    if (code === "unauthorized") this.page.askKey(text, () => this.toggle());
    else this.page.notice(text);
  }
}
