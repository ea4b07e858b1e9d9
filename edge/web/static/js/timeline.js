// Events of the last minute as bars, one lane a label; the newest moment is at the right.

import { calm } from "./dom.js";
import { fit, palette } from "./draw.js";

const SHOWN_S = 60;
const MAX_LANES = 5;
const MARGIN = 12;

export class Timeline {
  #canvas = document.getElementById("timeline");
  #events = new Map();
  #colors = palette();

  constructor(link) {
    this.link = link;
    link.addEventListener("event", ({ detail }) => this.#take(detail));
    link.addEventListener("status", ({ detail }) => {
      // What goes on has no end yet in a daemon that was restarted.
      if (this.pid !== undefined && this.pid !== detail.pid) for (const event of this.#events.values()) event.isOver = true;
      this.pid = detail.pid;
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => ((this.#colors = palette()), this.#draw()));
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
    setInterval(() => document.hidden || this.#draw(), calm.matches ? 1000 : 100);
  }

  #take(event) {
    const known = this.#events.get(event.id);
    const start = known?.start ?? event.heard_at - Math.max(0, event.t_emit - event.t_start);
    const end = event.heard_at - Math.max(0, event.t_emit - event.t_end);
    this.#events.set(event.id, { start, end, label: event.label, score: event.score, isOver: event.type === "end" });
    for (const [id, { end: over, isOver }] of this.#events) if (isOver && this.link.now - over > SHOWN_S) this.#events.delete(id);
  }

  #draw() {
    const { context, width, height } = fit(this.#canvas);
    if (width < 2) return;
    const now = this.link.now;
    const shown = [...this.#events.values()].filter(({ end, isOver }) => !isOver || now - end < SHOWN_S);
    const labels = [...new Set(shown.map(({ label }) => label))].slice(-MAX_LANES);
    const x = (time) => width - MARGIN - ((now - time) / SHOWN_S) * (width - 2 * MARGIN);
    const font = getComputedStyle(document.body).fontFamily;
    context.font = `11px ${font}`;
    context.fillStyle = this.#colors.muted;
    context.strokeStyle = this.#colors.line;
    context.textBaseline = "alphabetic";
    for (let s = 0; s <= SHOWN_S; s += width < 480 ? 30 : 15) {
      const at = x(now - s);
      context.beginPath();
      context.moveTo(at, 8);
      context.lineTo(at, height - 20);
      context.stroke();
      context.textAlign = s === 0 ? "right" : s === SHOWN_S ? "left" : "center";
      context.fillText(s ? `${s} s ago` : "now", at, height - 6);
    }
    const lane = Math.min(24, (height - 30) / Math.max(1, labels.length));
    labels.forEach((label, row) => {
      const top = 10 + row * lane;
      const spans = shown
        .filter((event) => event.label === label)
        .map((event) => ({ from: Math.max(MARGIN, x(event.start)), to: x(event.isOver ? event.end : now), score: event.score }))
        .filter(({ to }) => to > MARGIN);
      for (const { from, to, score } of spans) {
        context.fillStyle = this.#colors.accent;
        context.globalAlpha = 0.35 + 0.65 * Math.max(0, 2 * score - 1);
        context.beginPath();
        context.roundRect(from, top, Math.max(4, to - from), lane - 8, 4);
        context.fill();
        context.globalAlpha = 1;
      }
      if (!spans.length) return;
      // The name stands behind the newest bar, or before the oldest where there is no room.
      context.font = `600 12px ${font}`;
      context.fillStyle = this.#colors.text;
      context.textBaseline = "middle";
      const end = Math.max(...spans.map(({ to }) => to));
      const fits = x(now) - end > context.measureText(label).width + 12;
      context.textAlign = fits ? "left" : "right";
      context.fillText(label, fits ? end + 6 : Math.min(...spans.map(({ from }) => from)) - 6, top + (lane - 8) / 2);
    });
    if (!shown.length) {
      context.font = `13px ${font}`;
      context.fillStyle = this.#colors.muted;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText("No event in the last minute", width / 2, (height - 16) / 2);
    }
    const said = shown.length ? `Events of the last minute: ${shown.length}, of ${labels.join(", ")}` : "No event in the last minute";
    if (this.#canvas.getAttribute("aria-label") !== said) this.#canvas.setAttribute("aria-label", said);
  }
}
