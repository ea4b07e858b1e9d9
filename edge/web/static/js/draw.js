// Skeletons on canvases. Kinect's axes: x grows to the right hand of who faces the sensor, y up, z away from it.
// Seen from the front as in a mirror; from the side with the sensor at the left.

import { BONES, HANDS, HEAD } from "./kinect.js";

export const FRONT = (joint) => joint[0];
export const SIDE = (joint) => joint[2];

// The page's colors, which follow the system's choice of dark or light.
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    bone: color("bone"),
    left: color("bone-left"),
    joint: color("joint"),
    accent: color("accent"),
    floor: color("floor"),
    muted: color("muted"),
    text: color("text"),
    line: color("line"),
    bodies: [1, 2, 3, 4, 5, 6].map((n) => color(`body-${n}`)),
  };
}

// A canvas as sharp as its screen; returns its context and its size in CSS pixels.
export function fit(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const sharp = Math.min(3, devicePixelRatio || 1);
  const [w, h] = [Math.max(1, Math.round(width * sharp)), Math.max(1, Math.round(height * sharp))];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

// From meters to pixels: `across` is at the middle; the floor leaves room below it for what is written there.
export function projection({ left, top, width, height, across, floor, meters }) {
  const below = Math.min(84, 0.14 * height);
  const scale = (height - below) / meters;
  return {
    scale,
    x: (value) => left + width / 2 + (value - across) * scale,
    y: (value) => top + height - below - (value - floor) * scale,
  };
}

export function drawFloor(context, view, { left, width }, colors, across) {
  const y = view.y(view.floorY);
  context.strokeStyle = colors.floor;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left, y);
  context.lineTo(left + width, y);
  // A mark each half meter says how large the person is.
  const half = width / 2 / view.scale;
  for (let m = Math.ceil((across - half) * 2); m <= (across + half) * 2; m += 1) {
    const x = view.x(m / 2);
    context.moveTo(x, y);
    context.lineTo(x, y + (m % 2 ? 4 : 8));
  }
  context.stroke();
}

// `frame`: 25 joints or null; `across`: FRONT or SIDE; `shown`: joints to set off.
export function drawBody(context, frame, view, across, { color, leftColor, jointColor, shown = new Set(), accent }) {
  const weight = Math.max(2, Math.min(7, view.scale * 0.032));
  const point = (j) => frame[j] && [view.x(across(frame[j])), view.y(frame[j][1])];
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const wanted of ["left", "", "right"]) {
    context.strokeStyle = wanted === "left" ? leftColor : color;
    context.beginPath();
    for (const [a, b, side] of BONES) {
      const [from, to] = [point(a), point(b)];
      if (side !== wanted || !from || !to) continue;
      context.moveTo(...from);
      context.lineTo(...to);
    }
    context.lineWidth = weight;
    context.stroke();
  }
  const head = point(HEAD);
  if (head) {
    context.fillStyle = color;
    context.beginPath();
    context.arc(...head, Math.max(4, view.scale * 0.085), 0, 2 * Math.PI);
    context.fill();
  }
  for (const j of shown) {
    const at = point(j);
    if (!at) continue;
    context.fillStyle = accent;
    context.beginPath();
    context.arc(...at, weight * 1.25, 0, 2 * Math.PI);
    context.fill();
  }
  if (!jointColor) return;
  context.fillStyle = jointColor;
  for (const j of HANDS) {
    const at = point(j);
    if (!at) continue;
    context.beginPath();
    context.arc(...at, weight * 0.95, 0, 2 * Math.PI);
    context.fill();
  }
}
