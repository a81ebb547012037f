// One stream of speech over any number of connections (docs/protocol.md).
//
// What was said since the last final is kept, up to 10 minutes, and said again to the next connection; turns and times
// are counted on. So a server that went away in the middle of a turn costs a delay, and no word.

import { ws } from "./place.js";

export const LISTENING = "Listening.";
const KEEP_S = 600;
const BEFORE_S = 2; // kept of a silence: a turn begins a little before the sound that was taken for speech
const RETRY_MS = [250, 500, 1000, 2000, 4000];

export class Session {
  /**
   * `before`: the session that this one goes on from, with its turns and times. `on.event(message)`: events with the
   * stream's own turns and times; `on.state(text)`, `on.failed(code, text)`.
   */
  constructor(rate, settings, key, before, on) {
    Object.assign(this, { rate, settings, key, on });
    this.origin = before ? before.now() : 0; // s
    this.tape = []; // pieces since `start`
    this.start = 0; // samples of the stream before the tape
    this.end = 0; // and in all
    this.turns = before ? before.newest : 0; // completed
    this.newest = this.turns; // begun
    this.unsaid = 0; // pieces of the tape that this connection has had
    this.tries = 0;
    this.heard = []; // [s of the stream, when]: to tell how late a text is
    this.connect();
  }

  connect() {
    const { terms, ...single } = this.settings;
    const query = new URLSearchParams({ sample_rate: this.rate, events: 1, words: 1, heard: 1 });
    for (const [name, value] of Object.entries(single)) if (value) query.set(name, value);
    for (const term of terms) query.append("term", term);
    const url = `${ws}/ws/transcribe?${query}`;
    this.offset = { turn: this.turns, at: this.origin + this.start / this.rate };
    this.unsaid = 0;
    const socket = this.socket = this.key ? new WebSocket(url, ["token", spelled(this.key)]) : new WebSocket(url);
    let opened = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { opened = this.known = true; this.on.state(LISTENING); this.send(); };
    socket.onmessage = ({ data }) => { if (socket === this.socket) this.take(JSON.parse(data)); };
    socket.onclose = ({ code }) => this.closed(code, opened);
  }

  /** Seconds of the stream so far. */
  now() { return this.origin + this.end / this.rate; }

  feed(piece) {
    this.tape.push(piece);
    this.end += piece.length;
    this.heard.push([this.now(), performance.now()]);
    if (this.heard.length > 3000) this.heard.splice(0, 1000);
    while (this.end - this.start > KEEP_S * this.rate) this.drop();
    this.send();
  }

  drop() {
    this.start += this.tape.shift().length;
    this.unsaid = Math.max(0, this.unsaid - 1);
  }

  /** What was said before is not needed again. */
  forget(until_s) {
    const until = (until_s - this.origin) * this.rate;
    while (this.tape.length && this.start + this.tape[0].length <= until) this.drop();
  }

  send() {
    if (this.socket.readyState !== WebSocket.OPEN || this.finishing === "sent") return;
    // A server that is busy reads later: what it has no room for waits here, where it is needed anyway.
    while (this.unsaid < this.tape.length && this.socket.bufferedAmount < 1 << 20) this.socket.send(this.tape[this.unsaid++]);
    if (this.unsaid < this.tape.length) setTimeout(() => this.send(), 100);
    else if (this.finishing) { this.finishing = "sent"; this.command({ type: "finish" }); }
  }

  command(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  configure(settings) {
    const changed = Object.entries(settings).filter(([name, value]) => String(value) !== String(this.settings[name]));
    this.settings = settings;
    // What is empty now is the server's own from the next start on; no terms are none at once.
    const sent = changed.filter(([name, value]) => value || name === "terms");
    const message = Object.fromEntries(sent.map(([name, value]) => [name, name === "end_of_turn_ms" ? Number(value) : value]));
    if (sent.length) this.command({ type: "configure", ...message });
  }

  take(message) {
    this.tries = 0;
    const own = { ...message };
    if ("turn" in own) own.turn += this.offset.turn;
    if (own.turn >= this.newest) this.newest = own.turn + 1;
    for (const name of ["start", "end", "at", "decided"]) if (name in own) own[name] += this.offset.at;
    for (const list of ["words", "passages"]) {
      if (own[list]) own[list] = own[list].map((one) => ({ ...one, start: one.start + this.offset.at, end: one.end + this.offset.at }));
    }
    if (own.type === "heard" && this.turns === this.newest) this.forget(own.at - BEFORE_S); // nobody spoke
    if (own.isFinal) {
      // The server goes away: the turn is not over, and the next connection hears it again.
      if (own.why === "stream ended" && !this.finishing) return;
      this.turns = own.turn + 1;
      this.forget(own.end);
    }
    const at = own.decided ?? own.end;
    own.late_s = at === undefined ? undefined : this.late(at);
    this.on.event(own);
  }

  late(at_s) {
    const found = this.heard.find(([end]) => end >= at_s);
    return found && (performance.now() - found[1]) / 1000;
  }

  async closed(code, opened) {
    if (this.finishing && opened && code === 1000) return this.done();
    let why = "The connection is lost";
    if (!opened) {
      const { code, error } = await refusal(this.socket.url, this.key);
      // Who was in comes in again, sooner or later: others are full while they start anew.
      if (WHAT_TO_DO[code] && !(this.known && code === FULL)) return this.on.failed(code, `The server refuses: ${error}. ${WHAT_TO_DO[code]}`), this.done();
      if (error && code !== "upgrade_required") why = `The server says: ${error}`;
    }
    this.finishing &&= "wanted";
    if (this.stopped) return;
    this.on.state(`${why}; what you say is kept. Connecting again…`);
    this.timer = setTimeout(() => this.connect(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
  }

  /** Resolves once the last final is there. */
  finish() {
    return new Promise((resolve) => { this.done = resolve; this.finishing = "wanted"; this.send(); });
  }

  /** Give up. */
  stop() { this.stopped = true; clearTimeout(this.timer); this.socket.close(); this.done(); }

  done() {}
}

const FULL = "too_many_sessions";
const WHAT_TO_DO = {
  bad_option: "Change it in the settings, then start again.",
  forbidden_origin: "Start it with stt serve --allowed-origin.",
  not_found: "It does not speak the native protocol: start it with native among its --dialects.",
  [FULL]: "More are let in by stt serve --max-sessions.",
  unauthorized: "Enter the key of this server.",
};

// A subprotocol's name holds no "/" and no "=".
const spelled = (key) => encodeURIComponent(key).replace(/[()]/g, escape);

/** Browsers do not say why a WebSocket was refused, but the server does, to a plain GET. {}: it is not there. */
async function refusal(url, key) {
  try {
    return await (await fetch(url.replace(/^ws/, "http"), { headers: key ? { authorization: `Bearer ${key}` } : {} })).json();
  } catch {
    return {};
  }
}
