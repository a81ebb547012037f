// A transcript as a file: txt, srt, vtt, json, in the forms of `stt file`.

const stamp = (s, mark) => {
  const ms = Math.round(s * 1000);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return `${two(ms / 3600000)}:${two((ms / 60000) % 60)}:${two((ms / 1000) % 60)}${mark}${String(ms % 1000).padStart(3, "0")}`;
};
const cues = (turns) => turns.flatMap((turn) => (turn.passages?.length ? turn.passages : [turn]));
const span = (cue, mark) => `${stamp(cue.start, mark)} --> ${stamp(cue.end, mark)}`;
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const FORMATS = {
  txt: (turns) => turns.map((turn) => `${turn.text}\n`).join(""),
  srt: (turns) => cues(turns).map((cue, i) => `${i + 1}\n${span(cue, ",")}\n${cue.text.trim()}\n`).join("\n"),
  vtt: (turns) => "WEBVTT\n" + cues(turns).map((cue) => `\n${span(cue, ".")}\n${escaped(cue.text.trim())}\n`).join(""),
  json: (turns) => JSON.stringify({ turns: turns.map(({ turn, start, end, why, text, words }) => ({ turn, start, end, why, text, words })) }, null, 2) + "\n",
};

export function save(turns, format) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([FORMATS[format](turns)], { type: "text/plain;charset=utf-8" }));
  link.download = `transcript.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
