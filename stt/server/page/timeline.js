// The last 30 seconds, drawn: how loud it was, how sure the server was of speech, where speech and pauses were, when the
// end of a turn was decided.

const SPAN_S = 30;
const EVERY_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 60;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.now = 0;
    this.levels = []; // [s, peak]
    this.scores = []; // [s, probability of speech]
    this.marks = []; // {kind: speech | pause, start, end, probability} and {kind: end | started, start}
    this.draw();
  }

  level(at, peak) {
    this.now = at;
    this.levels.push([at, peak]);
    for (const list of [this.levels, this.scores]) while (list[0]?.[0] < at - SPAN_S) list.shift();
    this.marks = this.marks.filter((mark) => (mark.end ?? mark.start) >= at - SPAN_S);
    if (performance.now() - (this.drawn ?? 0) >= EVERY_MS) this.pending ??= requestAnimationFrame(() => { this.pending = undefined; this.draw(); });
  }

  take(message) {
    const close = (at) => { if (this.open) { this.open.end = at; this.open = undefined; } };
    const begin = (kind, start, more) => { close(start); this.marks.push(this.open = { kind, start, end: Infinity, ...more }); };
    switch (message.type) {
      case "turn_started": begin("speech", message.start); this.marks.push({ kind: "started", start: message.start }); break;
      case "turn_paused":
        // Told again when it is known how probable it is that the speaker is done.
        if (this.open?.kind === "pause" && this.open.start === message.end) this.open.probability = message.probability;
        else begin("pause", message.end, { probability: message.probability });
        break;
      case "turn_resumed": begin("speech", message.at); break;
      case "heard": this.scores.push([message.at, message.speech]); break;
      case "turn_completed":
        // The next turn may run already.
        if (this.open && this.open.start <= message.decided) close(message.decided);
        this.marks.push({ kind: "end", start: message.decided });
    }
  }

  draw() {
    this.drawn = performance.now();
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale)) { canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale); }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const color = (name) => style.getPropertyValue(name);
    const x = (s) => width - (this.now - Math.min(s, this.now)) / SPAN_S * width;
    const y = (share) => height - 14 - share * (height - 20);
    pen.fillStyle = color("--line");
    pen.beginPath();
    pen.moveTo(x(this.levels[0]?.[0] ?? 0), y(0));
    for (const [at, peak] of this.levels) pen.lineTo(x(at), y(peak));
    pen.lineTo(x(this.now), y(0));
    pen.fill();
    pen.strokeStyle = color("--accent");
    pen.beginPath();
    for (const [at, probability] of this.scores) pen.lineTo(x(at), y(probability));
    pen.stroke();
    for (const { kind, start, end, probability } of this.marks) {
      if (kind === "speech") { pen.fillStyle = color("--accent"); pen.fillRect(x(start), height - 10, x(end) - x(start), 7); }
      if (kind === "pause") {
        pen.fillStyle = color("--pause");
        for (let at = x(start); at < x(end); at += 6) pen.fillRect(at, height - 6, 3, 3);
        if (probability !== undefined) pen.fillText(`${Math.round(probability * 100)} %`, x(start), height - 10);
      }
      if (kind === "end") { pen.fillStyle = color("--warn"); pen.fillRect(x(start) - 1, 4, 3, height - 8); }
      if (kind === "started") { pen.fillStyle = color("--fore"); pen.beginPath(); pen.moveTo(x(start) - 5, 2); pen.lineTo(x(start) + 5, 2); pen.lineTo(x(start), 9); pen.fill(); }
    }
  }
}
