// Turns as they are told, and as they are shown. The server's `committed` and `stable` count Unicode characters.

const UNSURE = 0.5;
const SHOWN = 100; // turns that are over, in the document; those before them come back when somebody scrolls up to them

export const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;

/** The running conversation: turns that are over, and below them those that may still change. */
export class Transcript {
  /** `scroll` holds `list`; `spoken` is what a screen reader reads out. */
  constructor(scroll, list, empty, spoken) {
    Object.assign(this, { scroll, list, empty, spoken });
    scroll.addEventListener("scroll", () => { while (scroll.scrollTop < this.above) this.recall(); });
    this.clear();
  }

  clear() {
    this.turns = []; // finals with words
    this.shown = []; // elements of the newest of them
    this.running = new Map(); // turn -> its element
    this.list.replaceChildren();
    this.leave(0);
    this.spoken.replaceChildren();
    this.empty.hidden = false;
  }

  take(message) {
    if (message.text === undefined) return;
    if (!message.text) { // a cough, or words that were taken back
      this.running.get(message.turn)?.remove();
      this.running.delete(message.turn);
      return;
    }
    const { scroll } = this;
    const follows = scroll.scrollTop + scroll.clientHeight >= scroll.scrollHeight - 8; // nobody reads further up
    this.empty.hidden = true;
    const item = this.running.get(message.turn) ?? this.begin(message);
    if (message.isFinal) {
      this.turns.push(message);
      this.shown.push(over(item, message));
      this.running.delete(message.turn);
      this.spoken.replaceChildren(message.text);
      if (follows) this.forget();
    } else {
      fill(item, hypothesis(message), part("coming", "…")); // nothing moves when the line below comes
    }
    if (follows) scroll.scrollTop = scroll.scrollHeight;
  }

  begin(message) {
    const item = turn(clock(message.start));
    this.list.append(item);
    this.running.set(message.turn, item);
    return item;
  }

  /** Room above the list for turns that are over and not in the document: what is shown stays where it is, in pixels. */
  leave(above) {
    this.above = above;
    this.list.style.paddingTop = `${above}px`;
  }

  /** A conversation of hours need not be in the document. */
  forget() {
    const old = this.shown.splice(0, Math.max(0, this.shown.length - SHOWN));
    const height = old.reduce((sum, item) => sum + item.offsetHeight, 0);
    for (const item of old) item.remove();
    this.leave(this.above + height);
  }

  /** Show earlier turns too; what is being read stays where it is. */
  recall() {
    const { scroll, shown, turns, list } = this;
    const missing = turns.length - shown.length;
    const from = Math.max(0, missing - SHOWN);
    const read = shown[0];
    const before = read.offsetTop;
    const back = turns.slice(from, missing).map((one) => over(turn(clock(one.start)), one));
    list.prepend(...back);
    shown.unshift(...back);
    this.leave(from && Math.max(1, this.above - (read.offsetTop - before)));
    scroll.scrollTop += read.offsetTop - before; // the window may be wider than it was
  }
}

/** Show a turn that is over. */
function over(item, message) {
  fill(item, words(message), part("why", `${(message.end - message.start).toFixed(1)} s, ended by ${message.why}`));
  return item;
}

/** An empty turn for a list; its time is a button where there is something to play. */
export function turn(time, play) {
  const item = document.createElement("li");
  const at = document.createElement(play ? "button" : "time");
  at.className = "at";
  at.textContent = time;
  at.onclick = play;
  const text = document.createElement("p");
  text.dir = "auto";
  item.append(at, text);
  return item;
}

/** Show a turn's text, and a line below it if there is one to come. */
export function fill(item, text, ...below) {
  item.lastChild.replaceChildren(...text, ...below);
}

function part(name, text) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  return span;
}

function hypothesis({ text, committed, stable }) {
  const all = [...text];
  return [all.slice(0, committed).join(""), part("stable", all.slice(committed, stable).join("")), part("tentative", all.slice(Math.max(stable, committed)).join(""))];
}

/** The words of a turn that is over: those that the engine is unsure of are marked, and with `timed` each knows its time. */
export function words(message, timed = false) {
  if (!message.words?.length) return [message.text];
  return message.words.flatMap((word) => {
    const unsure = typeof word.confidence === "number" && word.confidence < UNSURE;
    if (!unsure && !timed) return word.text;
    const bare = word.text.trimStart();
    const span = part(unsure ? "unsure" : "", bare);
    if (unsure) span.title = `heard with a confidence of ${Math.round(word.confidence * 100)} %`;
    if (timed) Object.assign(span.dataset, { start: word.start, end: word.end });
    return [word.text.slice(0, -bare.length || undefined), span];
  });
}
