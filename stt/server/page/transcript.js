// Turns as they are told, and as they are shown. The server's `committed` and `stable` count Unicode characters.

const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;

export class Transcript {
  constructor(list, empty, spoken) {
    Object.assign(this, { list, empty, spoken });
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
    this.empty.hidden = true;
    const item = this.shown.get(message.turn) ?? this.begin(message);
    const text = item.lastChild;
    if (message.isFinal) {
      text.replaceChildren(...words(message), part("why", `${(message.end - message.start).toFixed(1)} s, ended by ${message.why}`));
      this.turns.push(message);
      this.shown.delete(message.turn);
      this.spoken.replaceChildren(message.text);
    } else {
      const all = [...message.text];
      const { committed, stable } = message;
      text.replaceChildren(all.slice(0, committed).join(""), part("stable", all.slice(committed, stable).join("")), part("tentative", all.slice(Math.max(stable, committed)).join("")));
    }
    item.scrollIntoView({ block: "nearest" });
  }

  begin(message) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = clock(message.start);
    item.append(time, document.createElement("span"));
    this.list.append(item);
    this.shown.set(message.turn, item);
    return item;
  }
}

function part(name, text) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  return span;
}

function words(message) {
  if (!message.words) return [message.text];
  return message.words.map((word) => {
    if (word.confidence === null || word.confidence >= 0.5) return word.text;
    const unsure = part("unsure", word.text);
    unsure.title = `heard with a confidence of ${Math.round(word.confidence * 100)} %`;
    return unsure;
  });
}
