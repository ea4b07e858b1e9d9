// Plays a movement again and again, from the front and from the side; where it may be trimmed, with its two ends.

import { button, calm, h, seconds } from "./dom.js";
import { FRONT, SIDE, drawBody, drawFloor, fit, palette, projection } from "./draw.js";
import { JOINTS, NUM_JOINTS, frameAt, speeds } from "./kinect.js";

const PAUSE_S = 0.5;
const SHORTEST_S = 0.1;

export class Player {
  #movement = null;
  #view = null;
  #shown = new Set();
  #speeds = [];
  #isPlaying = false;
  #at = 0;
  #before = 0;
  #request = 0;
  #onTrim;

  // `trim`: called with the chosen seconds once an end was moved; without it the movement is only played.
  constructor({ trim = null } = {}) {
    this.#onTrim = trim;
    this.canvas = h("canvas", { role: "img", "aria-label": "The movement, from the front and from the side" });
    this.toggle = button("Pause", () => (this.#isPlaying ? this.pause() : this.play()), { class: "small" });
    this.time = h("span", { class: "hint" });
    this.element = h("div", { class: "player" }, h("div", { class: "player-view" }, this.canvas));
    if (trim) this.element.append(this.#trimming());
    this.element.append(h("div", { class: "row" }, this.toggle, this.time));
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
  }

  // `moved`: the names of joints to set off.
  show(movement, moved = []) {
    this.#movement = movement;
    this.mark(moved);
    this.#speeds = speeds(movement);
    this.#view = extentOf(movement);
    this.#at = movement.startS;
    if (this.#onTrim) this.#setEnds();
    if (calm.matches) this.pause();
    else this.play();
  }

  mark(moved) {
    this.#shown = new Set(moved.map((joint) => JOINTS.indexOf(joint)).filter((j) => j >= 0));
  }

  // Goes back to a part, [start, end] in seconds.
  restore([startS, endS]) {
    [this.#movement.startS, this.#movement.endS] = [startS, endS];
    this.#setEnds();
    this.#draw();
  }

  play() {
    this.#isPlaying = true;
    this.toggle.textContent = "Pause";
    this.#before = performance.now();
    cancelAnimationFrame(this.#request);
    this.#request = requestAnimationFrame(() => this.#step());
  }

  pause() {
    this.#isPlaying = false;
    this.toggle.textContent = "Play";
    cancelAnimationFrame(this.#request);
    this.#draw();
  }

  #step() {
    if (!this.#isPlaying || !this.element.isConnected) return;
    const now = performance.now();
    this.#at += Math.min(0.1, (now - this.#before) / 1000);
    this.#before = now;
    if (this.#at > this.#movement.endS + PAUSE_S) this.#at = this.#movement.startS;
    this.#draw();
    this.#request = requestAnimationFrame(() => this.#step());
  }

  #draw() {
    if (!this.#movement) return;
    const { context, width, height } = fit(this.canvas);
    const colors = palette();
    const time = Math.min(this.#at, this.#movement.endS);
    const frame = frameAt(this.#movement, indexAt(this.#movement.times, time));
    const split = Math.round(width * 0.56);
    const meters = Math.max(this.#view.meters, (this.#view.across * height) / (width - split));
    for (const [across, middle, left, wide] of [
      [FRONT, this.#view.x, 0, split],
      [SIDE, this.#view.z, split, width - split],
    ]) {
      const area = { left, top: 0, width: wide, height };
      const view = projection({ ...area, across: middle, floor: this.#view.floor, meters });
      view.floorY = this.#view.floor;
      context.save();
      context.beginPath();
      context.rect(left, 0, wide, height);
      context.clip();
      drawFloor(context, view, area, colors, middle);
      drawBody(context, frame, view, across, { color: colors.bone, leftColor: colors.left, shown: this.#shown, accent: colors.accent });
      context.restore();
    }
    const { startS, endS } = this.#movement;
    this.time.textContent = `${seconds(Math.max(0, time - startS))} of ${seconds(endS - startS)}`;
    this.#drawStrip(colors, time);
  }

  // The two ends.

  #trimming() {
    this.strip = h("canvas", { "aria-hidden": "true" });
    const end = (id, name) => {
      const input = h("input", { type: "range", id, min: "0", step: "0.02" });
      const said = h("output", { for: id });
      input.addEventListener("input", () => this.#moveEnd());
      input.addEventListener("change", () => this.#onTrim(this.#movement.startS, this.#movement.endS));
      return { input, said, parts: [h("label", { for: id }, name), input, said] };
    };
    this.first = end("trim-start", "Begins");
    this.last = end("trim-end", "Ends");
    return h("div", { class: "player" },
      h("div", { class: "strip" }, this.strip),
      h("div", { class: "trims" }, this.first.parts, this.last.parts),
    );
  }

  #setEnds() {
    const whole = this.#movement.times.at(-1);
    for (const [{ input, said }, value] of [[this.first, this.#movement.startS], [this.last, this.#movement.endS]]) {
      input.max = whole.toFixed(3);
      input.value = value;
      said.textContent = seconds(value);
      input.setAttribute("aria-valuetext", seconds(value));
    }
  }

  #moveEnd() {
    const start = Math.min(Number(this.first.input.value), this.#movement.times.at(-1) - SHORTEST_S);
    const end = Math.max(Number(this.last.input.value), start + SHORTEST_S);
    [this.#movement.startS, this.#movement.endS] = [start, end];
    this.#setEnds();
    this.#at = document.activeElement === this.last.input ? end : start;
    this.#draw();
  }

  // How fast it is at each moment: where it rests is what one trims.
  #drawStrip(colors, time) {
    if (!this.strip) return;
    const { context, width, height } = fit(this.strip);
    const { times, startS, endS } = this.#movement;
    const whole = times.at(-1) || 1;
    const x = (at) => (at / whole) * width;
    for (const [color, from, to, alpha] of [[colors.muted, 0, whole, 0.35], [colors.accent, startS, endS, 1]]) {
      context.save();
      context.beginPath();
      context.rect(x(from), 0, x(to) - x(from), height);
      context.clip();
      context.globalAlpha = alpha;
      context.fillStyle = color;
      context.beginPath();
      context.moveTo(0, height);
      this.#speeds.forEach((speed, i) => context.lineTo(x(times[i]), height - 3 - speed * (height - 8)));
      context.lineTo(width, height);
      context.fill();
      context.restore();
    }
    context.fillStyle = colors.text;
    context.fillRect(x(time) - 1, 0, 2, height);
  }
}

function indexAt(times, time) {
  let index = 0;
  while (index + 1 < times.length && times[index + 1] <= time) index += 1;
  return index;
}

function extentOf({ joints, times }) {
  const range = [0, 1, 2].map(() => [Infinity, -Infinity]);
  for (let i = 0; i < times.length * NUM_JOINTS; i += 1) {
    for (let k = 0; k < 3; k += 1) {
      const value = joints[3 * i + k];
      if (value < range[k][0]) range[k][0] = value;
      if (value > range[k][1]) range[k][1] = value;
    }
  }
  const [[left, right], [low, high], [near, far]] = range;
  return {
    x: (left + right) / 2,
    z: (near + far) / 2,
    floor: low,
    meters: Math.max(1.2, 1.1 * (high - low)),
    across: 1.15 * Math.max(right - left, far - near) + 0.2,
  };
}

// A button that plays a movement below an item of a list, and takes it away again.
export function playButton(item, load, moved = []) {
  let player = null;
  const toggle = button("Play", async () => {
    if (player) {
      player.element.remove();
      player = null;
    } else {
      const movement = await load();
      if (!movement) return;
      player = new Player();
      item.append(player.element);
      player.show(movement, moved);
    }
    toggle.textContent = player ? "Close" : "Play";
    toggle.setAttribute("aria-expanded", String(Boolean(player)));
  }, { class: "small", "aria-expanded": "false" });
  return toggle;
}
