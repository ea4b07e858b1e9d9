// The live skeletons, from the front and from the side: the newest of each source, eased, bounded to what is in view.

import { calm } from "./dom.js";
import { FRONT, SIDE, drawBody, drawFloor, fit, palette, projection } from "./draw.js";
import { HANDS } from "./kinect.js";

// Who was not seen for so long is not shown any more.
const GONE_MS = 700;
// Skeletons come 15 times a second and are shown one step later, in between as the screen likes it.
const STEP_MS = 1000 / 15;
const TRAIL_MS = 900;
const TALLEST_M = 2.1;
const MAX_BODIES = 12;

export class Stage {
  #front = document.getElementById("front");
  #side = document.getElementById("side");
  #empty = document.getElementById("empty");
  #bodies = new Map();
  #colors = palette();
  #view = null;
  #drawn = false;
  #said = "";
  #note = "";

  constructor(link) {
    link.addEventListener("skeleton", ({ detail }) => this.#take(detail));
    link.addEventListener("disconnected", () => this.#bodies.clear());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.#colors = palette()));
    new ResizeObserver(() => (this.#drawn = false)).observe(this.#front);
    const draw = () => {
      this.#draw(performance.now());
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  // Why nobody is to be seen, "" where that is just so.
  say(note) {
    this.#note = note;
  }

  // [{source, id}, ...] of whoever is in view.
  get bodies() {
    return [...this.#bodies.values()].map(({ source, id }) => ({ source, id }));
  }

  #take({ source, bodies }) {
    const now = performance.now();
    const seen = new Set();
    for (const { id, joints } of bodies.slice(0, MAX_BODIES)) {
      const key = `${source} ${id}`;
      seen.add(key);
      const known = this.#bodies.get(key);
      const trail = known?.trail ?? [];
      trail.push({ at: now, hands: HANDS.map((j) => joints[j]) });
      const slot = known?.slot ?? this.#freeSlot();
      this.#bodies.set(key, { source, id, joints, at: now, before: known?.joints ?? joints, trail, slot });
    }
    for (const [key, body] of this.#bodies) if (body.source === source && !seen.has(key)) this.#bodies.delete(key);
    this.#drawn = false;
  }

  // Who comes gets a color that nobody has, and keeps it.
  #freeSlot() {
    const taken = new Set([...this.#bodies.values()].map(({ slot }) => slot));
    let slot = 0;
    while (taken.has(slot)) slot += 1;
    return slot;
  }

  #draw(now) {
    for (const [key, body] of this.#bodies) {
      if (now - body.at > GONE_MS) {
        this.#bodies.delete(key);
        this.#drawn = false;
      }
    }
    this.#tell();
    const isMoving = !calm.matches && [...this.#bodies.values()].some(({ at }) => now - at < TRAIL_MS);
    if (this.#drawn && !isMoving) return;
    this.#drawn = true;
    const bodies = [...this.#bodies.values()].map((body) => ({ ...body, joints: between(body, now) }));
    const view = this.#follow(bodies);
    const several = this.#bodies.size > 1;
    for (const [canvas, across, middle] of [
      [this.#front, FRONT, view.x],
      [this.#side, SIDE, view.z],
    ]) {
      const { context, width, height } = fit(canvas);
      const area = { left: 0, top: 0, width, height };
      const shape = projection({ ...area, across: middle, floor: view.floor, meters: view.meters });
      shape.floorY = view.floor;
      drawFloor(context, shape, area, this.#colors, middle);
      bodies.forEach((body) => {
        const color = several ? this.#colors.bodies[body.slot % this.#colors.bodies.length] : this.#colors.bone;
        const leftColor = several ? color : this.#colors.left;
        if (!calm.matches) drawTrail(context, body, shape, across, several ? color : this.#colors.accent, now);
        drawBody(context, body.joints, shape, across, { color, leftColor, jointColor: several ? color : this.#colors.accent });
      });
    }
  }

  // Where to look: at the middle of everybody, with the floor under their feet; eased, so that it does not jump.
  #follow(bodies) {
    const seen = bodies.flatMap(({ joints }) => joints.filter(Boolean));
    const before = this.#view ?? { x: 0, z: 2.5, floor: -0.95, meters: TALLEST_M };
    if (!seen.length) return before;
    const range = (k) => seen.reduce(([low, high], joint) => [Math.min(low, joint[k]), Math.max(high, joint[k])], [9e9, -9e9]);
    const [[left, right], [low, high], [near, far]] = [range(0), range(1), range(2)];
    const { width, height } = this.#front.getBoundingClientRect();
    const wide = ((right - left + 0.5) * height) / Math.max(1, width);
    const wanted = { x: (left + right) / 2, z: (near + far) / 2, floor: low, meters: Math.max(TALLEST_M, (high - low) * 1.1, wide) };
    const ease = this.#view && !calm.matches ? 0.06 : 1;
    this.#view = {
      x: before.x + ease * (wanted.x - before.x),
      z: before.z + ease * (wanted.z - before.z),
      // A foot that is lifted does not lift the floor; one that is set down lower lowers it.
      floor: wanted.floor < before.floor ? wanted.floor : before.floor + 0.1 * ease * (wanted.floor - before.floor),
      meters: before.meters + ease * (wanted.meters - before.meters),
    };
    return this.#view;
  }

  #tell() {
    const count = this.#bodies.size;
    const said = count ? `${count === 1 ? "One person is" : `${count} people are`} in view` : this.#note || "Nobody is in view";
    if (said === this.#said) return;
    this.#said = said;
    this.#front.setAttribute("aria-label", `Front view: ${said}`);
    this.#side.setAttribute("aria-label", `Side view: ${said}`);
    this.#empty.textContent = count ? "" : said;
  }
}

function between({ joints, before, at }, now) {
  if (calm.matches) return joints;
  const share = Math.min(1, (now - at) / STEP_MS);
  return joints.map((joint, j) => joint && before[j] && joint.map((value, k) => before[j][k] + share * (value - before[j][k])));
}

// Where the hands were, up to where they are drawn now.
function drawTrail(context, { trail, joints }, view, across, color, now) {
  while (trail.length && now - trail[0].at > TRAIL_MS) trail.shift();
  const path = [...trail.slice(0, -1), { at: now, hands: HANDS.map((j) => joints[j]) }];
  context.strokeStyle = color;
  context.lineCap = "butt";
  for (let i = 1; i < path.length; i += 1) {
    const fresh = 1 - (now - path[i].at) / TRAIL_MS;
    context.globalAlpha = 0.4 * fresh * fresh;
    context.lineWidth = Math.max(1, view.scale * 0.03 * fresh);
    HANDS.forEach((_, hand) => {
      const [from, to] = [path[i - 1].hands[hand], path[i].hands[hand]];
      if (!from || !to) return;
      context.beginPath();
      context.moveTo(view.x(across(from)), view.y(from[1]));
      context.lineTo(view.x(across(to)), view.y(to[1]));
      context.stroke();
    });
  }
  context.globalAlpha = 1;
}
