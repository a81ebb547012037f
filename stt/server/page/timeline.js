// The last 30 seconds, drawn: how loud it was, where speech and pauses were, when the end of a turn was decided.

const SPAN_S = 30;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.now = 0;
    this.levels = []; // [s, peak]
    this.marks = []; // {kind: speech | pause, start, end} and {kind: end | started, start}
    this.draw();
  }

  level(at, peak) {
    this.now = at;
    this.levels.push([at, peak]);
    while (this.levels[0]?.[0] < at - SPAN_S) this.levels.shift();
    this.marks = this.marks.filter((mark) => (mark.end ?? mark.start) >= at - SPAN_S);
    this.pending ??= requestAnimationFrame(() => { this.pending = undefined; this.draw(); });
  }

  take(message) {
    const close = (at) => { if (this.open) { this.open.end = at; this.open = undefined; } };
    const begin = (kind, start) => { close(start); this.marks.push(this.open = { kind, start, end: Infinity }); };
    switch (message.type) {
      case "turn_started": begin("speech", message.start); this.marks.push({ kind: "started", start: message.start }); break;
      case "turn_paused": begin("pause", message.end); break;
      case "turn_resumed": begin("speech", message.at); break;
      case "turn_completed":
        // The next turn may run already.
        if (this.open && this.open.start <= message.decided) close(message.decided);
        this.marks.push({ kind: "end", start: message.decided });
    }
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale)) { canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale); }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const color = (name) => getComputedStyle(canvas).getPropertyValue(name);
    const x = (s) => width - (this.now - Math.min(s, this.now)) / SPAN_S * width;
    pen.fillStyle = color("--quiet");
    for (const [at, peak] of this.levels) pen.fillRect(x(at), (height - 14) - peak * (height - 20), 1, Math.max(1, peak * (height - 20)));
    for (const { kind, start, end } of this.marks) {
      if (kind === "speech") { pen.fillStyle = color("--accent"); pen.fillRect(x(start), height - 10, x(end) - x(start), 7); }
      if (kind === "pause") { pen.fillStyle = color("--pause"); for (let at = x(start); at < x(end); at += 6) pen.fillRect(at, height - 6, 3, 3); }
      if (kind === "end") { pen.fillStyle = color("--warn"); pen.fillRect(x(start) - 1, 4, 3, height - 8); }
      if (kind === "started") { pen.fillStyle = color("--fore"); pen.beginPath(); pen.moveTo(x(start) - 5, 2); pen.lineTo(x(start) + 5, 2); pen.lineTo(x(start), 9); pen.fill(); }
    }
  }
}
