// Turns as they are told, and as they are shown. The server's `committed` and `stable` count Unicode characters.

const UNSURE = 0.5;

export const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;

/** The running conversation: turns that may still change, one below the other. */
export class Transcript {
  /** `scroll` holds `list`; `spoken` is what a screen reader reads out. */
  constructor(scroll, list, empty, spoken) {
    Object.assign(this, { scroll, list, empty, spoken });
    this.clear();
  }

  clear() {
    this.turns = []; // finals with words
    this.shown = new Map(); // turn -> its element
    this.list.replaceChildren();
    this.spoken.replaceChildren();
    this.empty.hidden = false;
  }

  take(message) {
    if (message.text === undefined) return;
    if (!message.text) { // a cough, or words that were taken back
      this.shown.get(message.turn)?.remove();
      this.shown.delete(message.turn);
      return;
    }
    const { scroll } = this;
    const follows = scroll.scrollTop + scroll.clientHeight >= scroll.scrollHeight - 8; // nobody reads further up
    this.empty.hidden = true;
    const item = this.shown.get(message.turn) ?? this.begin(message);
    if (message.isFinal) {
      fill(item, words(message), part("why", `${(message.end - message.start).toFixed(1)} s, ended by ${message.why}`));
      this.turns.push(message);
      this.shown.delete(message.turn);
      this.spoken.replaceChildren(message.text);
    } else {
      fill(item, hypothesis(message), part("coming", "…")); // nothing moves when the line below comes
    }
    if (follows) scroll.scrollTop = scroll.scrollHeight;
  }

  begin(message) {
    const item = turn(clock(message.start));
    this.list.append(item);
    this.shown.set(message.turn, item);
    return item;
  }
}

/** An empty turn for a list; its time is a button where there is something to play. */
export function turn(time, play) {
  const item = document.createElement("li");
  const at = document.createElement(play ? "button" : "time");
  at.className = "at";
  at.textContent = time;
  if (play) at.addEventListener("click", play);
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
