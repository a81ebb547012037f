// Files: a queue, of which one at a time is sent and heard, and what became of each.

import { save } from "./save.js";
import { asked } from "./settings.js";
import { clock, fill, turn, words } from "./transcript.js";
import { upload } from "./upload.js";

const BUSY_MS = 5000; // a full server is asked again after this

export class Files {
  constructor(page) {
    this.page = page;
    this.waiting = [];
    const choose = document.getElementById("choose");
    choose.addEventListener("change", () => { this.add(choose.files); choose.value = ""; });
  }

  add(files) {
    for (const file of files) this.queue(new Entry(file, this));
  }

  queue(entry) {
    this.waiting.push(entry);
    this.next();
  }

  next() {
    if (this.running) return;
    this.running = this.waiting.shift();
    this.running?.begin();
  }

  /** An entry needs its place in the queue no longer. */
  leave(entry) {
    this.waiting = this.waiting.filter((one) => one !== entry);
    if (this.running !== entry) return;
    this.running = undefined;
    this.next();
  }
}

/** One file in the list. */
class Entry {
  constructor(file, files) {
    Object.assign(this, { file, files, turns: [] });
    const item = document.getElementById("file").content.cloneNode(true).firstElementChild;
    this.item = item;
    this.parts = Object.fromEntries([...item.querySelectorAll("[class]")].map((one) => [one.classList[0], one]));
    item.querySelector("h2").textContent = file.name;
    for (const button of item.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
    const clicked = {
      cancel: () => this.end("Cancelled.", true),
      again: () => this.restart(),
      copy: () => files.page.copy(this.turns.map((one) => one.text).join("\n")),
      save: () => save(file.name.replace(/\.[^.]*$/, ""), this.turns, this.parts.format.value, { file: file.name }),
      remove: () => this.remove(),
      turns: ({ target }) => { if (target.dataset.start) this.play(target.dataset.start); },
    };
    for (const name in clicked) this.parts[name].onclick = clicked[name];
    document.getElementById("queue").append(item);
    this.openPlayer();
  }

  openPlayer() {
    const player = this.player = document.createElement(this.file.type.startsWith("video/") ? "video" : "audio");
    Object.assign(player, { controls: true, preload: "metadata", src: this.url = URL.createObjectURL(this.file) });
    player.setAttribute("aria-label", `Play ${this.file.name}`);
    player.onerror = () => { this.parts.player.textContent = "This browser cannot play this file; the server may still understand it."; this.player = undefined; };
    player.ontimeupdate = () => this.follow(player.currentTime);
    this.parts.player.append(player);
  }

  begin() {
    this.state("Sending…");
    const share = (text, part) => { this.state(text); if (part === undefined) this.parts.progress.removeAttribute("value"); else this.parts.progress.value = part; };
    this.abort = upload(this.file, asked(), this.files.page.key, {
      sent: (part) => (part < 1 ? share(`Sending: ${Math.floor(part * 100)} %`, part) : share("Sent; the server listens…")),
      turn: (one) => {
        this.show(one);
        const whole = this.player?.duration;
        share(`Heard up to ${clock(one.end)}${Number.isFinite(whole) ? ` of ${clock(whole)}` : ""}`, Number.isFinite(whole) ? Math.min(1, one.end / whole) : undefined);
      },
      done: (warning) => {
        this.parts.progress.value = 1;
        this.end(warning ? `Done, but not all of it could be read: ${warning}` : this.turns.length ? "Done." : "Done: nobody speaks in it.", false);
      },
      failed: (code, text) => this.failed(code, text),
    });
  }

  failed(code, text) {
    if (code === "busy") {
      this.state(`${text}. It is sent again in ${BUSY_MS / 1000} s.`);
      const timer = setTimeout(() => this.begin(), BUSY_MS);
      this.abort = () => clearTimeout(timer);
      return;
    }
    this.end(`Failed: ${text}`, true);
    if (code === "unauthorized") this.files.page.askKey(text, () => this.restart());
  }

  /** Stop, whatever it is at. */
  end(text, again) {
    this.abort?.();
    this.abort = undefined;
    this.state(text);
    document.getElementById("spoken").textContent = text && `${this.file.name}: ${text}`;
    this.parts.cancel.hidden = true;
    this.parts.again.hidden = !again;
    this.parts.progress.hidden = true;
    this.files.leave(this);
  }

  restart() {
    this.turns = [];
    this.parts.turns.replaceChildren();
    this.parts.cancel.hidden = false;
    this.parts.again.hidden = true;
    this.parts.progress.hidden = false;
    this.parts.progress.value = 0;
    this.parts.save.disabled = this.parts.copy.disabled = true;
    this.state("Waits for its turn.");
    this.files.queue(this);
  }

  remove() {
    this.end("", false);
    URL.revokeObjectURL(this.url);
    this.item.remove();
  }

  state(text) { this.parts["file-state"].textContent = text; }

  show(one) {
    this.turns.push(one);
    this.parts.save.disabled = this.parts.copy.disabled = false;
    const item = turn(clock(one.start), () => this.play(one.start));
    item.firstChild.setAttribute("aria-label", `Play from ${clock(one.start)}`);
    fill(item, words(one, true));
    this.parts.turns.append(item);
  }

  play(at) {
    if (!this.player) return;
    this.player.currentTime = Number(at);
    this.player.play();
  }

  /** Mark the word that is being played. */
  follow(at) {
    this.marked?.classList.remove("played");
    const inside = (one) => one.start <= at && at < one.end;
    const index = this.turns.findIndex(inside);
    const word = index < 0 ? -1 : this.turns[index].words.findIndex(inside);
    this.marked = word < 0 ? undefined : this.parts.turns.children[index].lastChild.children[word];
    this.marked?.classList.add("played");
  }
}
