// A transcript as a file. Subtitles are cut as subtitlers do: two lines of 42 columns and 7 seconds at most.

const LINE = 42, MOST_S = 7, LEAST_S = 5 / 6, SILENCE_S = 1;

const stamp = (s, mark) => {
  const ms = Math.round(s * 1000);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return `${two(ms / 3600000)}:${two((ms / 60000) % 60)}:${two((ms / 1000) % 60)}${mark}${String(ms % 1000).padStart(3, "0")}`;
};
const span = (cue, mark) => `${stamp(cue.start, mark)} --> ${stamp(cue.end, mark)}`;
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
// Chinese, Japanese and Korean characters are two columns wide.
const columns = (text) => [...text].reduce((sum, char) => sum + (/[\u1100-\u115f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]/u.test(char) ? 2 : 1), 0);

/** A turn's words with their times; where nobody told, its passages' times are spread over their characters. */
function timed(turn) {
  if (turn.words?.length) return turn.words;
  return (turn.passages ?? [turn]).flatMap(({ start, end, text }, i) => {
    const at = (chars) => start + (end - start) * chars / text.length;
    return [...text.matchAll(/\s*\S+/g)].map(({ 0: word, index }) => (
      { text: i && !index ? ` ${word.trimStart()}` : word, start: at(index), end: at(index + word.length) }
    ));
  });
}

/** Break words into lines that fit, the first as long as it may be if there are two; a longer word has its own. */
function lines(words) {
  const found = [];
  for (const { text } of words) {
    const last = found.at(-1);
    if (last !== undefined && columns((last + text).trim()) <= LINE) found[found.length - 1] = last + text;
    else found.push(text.trimStart());
  }
  return found.map((line) => line.trim());
}

export function cues(turns) {
  const found = [];
  for (const turn of turns) {
    let held = [];
    const close = () => {
      if (!held.length) return;
      found.push({ start: held[0].start, end: Math.min(held.at(-1).end, held[0].start + MOST_S), text: lines(held).join("\n") });
      held = [];
    };
    for (const word of timed(turn)) {
      const last = held.at(-1);
      if (last && (word.start - last.end >= SILENCE_S || word.end - held[0].start > MOST_S || lines([...held, word]).length > 2 || (/[.!?…。！？]["')\]”’»」]*$/.test(last.text) && held.length > 3))) close();
      held.push(word);
    }
    close();
  }
  // One too short to read stays while nothing else comes; none is over after the next has begun.
  found.forEach((cue, i) => {
    const next = found[i + 1]?.start ?? Infinity;
    cue.end = Math.max(cue.start + 0.001, Math.min(Math.max(cue.end, cue.start + LEAST_S), next));
  });
  return found;
}

const FORMATS = {
  txt: (turns) => turns.map((turn) => `${turn.text}\n`).join(""),
  srt: (turns) => cues(turns).map((cue, i) => `${i + 1}\n${span(cue, ",")}\n${cue.text}\n\n`).join(""),
  vtt: (turns) => "WEBVTT\n\n" + cues(turns).map((cue) => `${span(cue, ".")}\n${escaped(cue.text)}\n\n`).join(""),
  json: (turns, about) => JSON.stringify({ ...about, turns: turns.map(({ turn, start, end, why, text, words }) => ({ turn, start, end, why, text, words })) }, null, 2) + "\n",
};

/** Give the browser `name.format` to save. */
export function save(name, turns, format, about = {}) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([FORMATS[format](turns, about)], { type: "text/plain;charset=utf-8" }));
  link.download = `${name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
