// This device's camera: what to choose, the preview with the skeleton, how it goes. It goes on while another pane is
// shown.

import { BrowserCamera, listCameras } from "../camera.js";
import { field, h, number } from "../dom.js";

const NAME = "crossglg.camera-name";
// Of the 33 landmarks, those of trunk, arms and legs; the head is a dot.
const BONES = [
  [11, 12], [23, 24], [11, 23], [12, 24], [11, 13], [13, 15], [15, 19], [12, 14], [14, 16], [16, 20],
  [23, 25], [25, 27], [27, 31], [24, 26], [26, 28], [28, 32],
];
const NOSE = 0;
const WORDS = {
  off: "Off.",
  starting: "Starting. The browser may ask whether the page may use the camera; the model takes some seconds.",
  on: "Sending.",
  paused: "Paused: the browser gives no pictures while this page is not in view.",
  offline: "The page's server does not answer. The camera goes on when it does.",
};

export default { id: "camera", title: "Camera", mount };

function mount(page, root) {
  const camera = new BrowserCamera();
  const name = h("input", { type: "text", maxlength: "40", value: rememberedName(), autocomplete: "off" });
  const which = h("select");
  const people = h("select", {}, [1, 2, 3, 4].map((count) => h("option", { value: String(count) }, String(count))));
  const choices = h(
    "div", { class: "choices" },
    field("Name", name, "The daemon calls it browser-NAME."),
    field("Camera", which),
    field("People at most", people, "Each one takes time."),
  );
  const overlay = h("canvas", { "aria-hidden": "true" });
  const preview = h("div", { class: "preview", hidden: true }, camera.video, overlay);
  const state = h("p", { role: "status" }, WORDS.off);
  const trouble = h("div", { class: "callout", role: "alert", hidden: true });
  const figures = h("dl", { class: "facts" });
  const toggle = h("button", { type: "button", class: "primary" }, "Start the camera");
  let failure = null;
  camera.video.setAttribute("aria-label", "What the camera sees");
  root.append(
    h("h2", {}, "Use this device's camera"),
    h("p", { class: "hint" }, "The pictures stay in this browser. Only the 33 joints of each person leave it."),
    choices, toggle, state, trouble, preview, figures,
  );

  toggle.addEventListener("click", () => {
    failure = null;
    if (camera.isOn) return camera.stop();
    name.value ||= rememberedName();
    localStorage.setItem(NAME, name.value);
    const [kind, value] = which.value.split(/:(.*)/);
    const choice = kind === "device" ? { deviceId: value } : { facing: value };
    camera.start({ name: name.value, numPeople: Number(people.value), ...choice }).then(() => fillCameras(which));
  });

  const show = () => {
    const isSeen = camera.isOn && camera.state !== "starting";
    toggle.textContent = camera.isOn ? "Stop the camera" : "Start the camera";
    choices.hidden = camera.isOn;
    preview.hidden = !isSeen;
    preview.classList.toggle("mirrored", camera.isMirrored);
    const words = camera.state === "on" && camera.source ? `Sending as ${camera.source}.` : WORDS[camera.state];
    if (state.textContent !== words) state.textContent = words;
    tell(trouble, failure ?? troubleOf(page, camera));
    figures.replaceChildren(...(isSeen ? rows(camera, page.status?.sources[camera.source]) : []));
  };
  camera.addEventListener("change", show);
  camera.addEventListener("people", ({ detail }) => draw(overlay, camera.video, detail));
  camera.addEventListener("error", ({ detail }) => {
    failure = detail;
    show();
  });
  page.addEventListener("status", show);
  navigator.mediaDevices?.addEventListener("devicechange", () => fillCameras(which));
  fillCameras(which);
  show();
}

// Says what is wrong, once: it is read out whenever it changes.
function tell(element, problem) {
  const said = problem ? `${problem.message}\n${problem.hint}` : "";
  if ((element.dataset.said ?? "") === said) return;
  element.dataset.said = said;
  element.hidden = !problem;
  element.replaceChildren(...(problem ? [problem.message, problem.hint].map((text) => h("p", {}, withCode(text))) : []));
}

// What stands between backticks is for a terminal.
const withCode = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

// What keeps the frames from being of use. That no daemon answers is said on top of the page.
function troubleOf(page, camera) {
  const { status } = page;
  if (status && status.camera !== "zmq") {
    return {
      message: `The daemon reads its own camera, ${status.camera}, and not what browsers send.`,
      hint: "Stop it, and start it with `crossglg-edge serve --camera zmq`.",
    };
  }
  if (status?.sources[camera.source]?.slow) {
    return {
      message: "This device is too slow for an enrollment.",
      hint: "Close other programs, choose one person, or lower `min_rate_fps` under `[stream]` in the config.",
    };
  }
  return null;
}

function rows(camera, source) {
  const { counts } = camera;
  const byReason = (dropped) => Object.entries(dropped).map(([reason, count]) => `${count} ${reason}`).join(", ");
  return [
    ["Frames a second", number(camera.fps, 1)],
    ["One picture takes", `${Math.round(counts.tookMs)} ms`],
    ["Sent", String(counts.sent)],
    ["Skipped while busy", String(counts.skipped)],
    ["Not sent in time", String(counts.unsent)],
    ["Refused here", byReason(counts.refused)],
    ["Taken by the daemon", source ? `${source.frames}, ${number(source.fps, 1)} a second` : "none yet"],
    ["Lost on the way", source?.lost ? String(source.lost) : ""],
    ["Dropped by the daemon", byReason(source?.dropped ?? {})],
  ].filter(([, value]) => value).flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]);
}

async function fillCameras(which) {
  const chosen = which.value;
  // They have names once the browser was allowed to use one.
  const cameras = (await listCameras()).filter(({ label }) => label);
  const devices = cameras.map(({ deviceId, label }) => [`device:${deviceId}`, label]);
  const choices = [["facing:user", "Front"], ["facing:environment", "Back"], ...devices];
  which.replaceChildren(...choices.map(([value, text]) => h("option", { value }, text)));
  if (choices.some(([value]) => value === chosen)) which.value = chosen;
}

// Two devices have two names, without anybody choosing one.
function rememberedName() {
  const kind = /Mobi|Android|iPhone|iPad/.test(navigator.userAgent) ? "phone" : "computer";
  const name = localStorage.getItem(NAME) || `${kind}-${(crypto.getRandomValues(new Uint16Array(1))[0] % 900) + 100}`;
  localStorage.setItem(NAME, name);
  return name;
}

function draw(canvas, video, people) {
  if (canvas.width !== video.videoWidth) canvas.width = video.videoWidth;
  if (canvas.height !== video.videoHeight) canvas.height = video.videoHeight;
  const pen = canvas.getContext("2d");
  const colors = getComputedStyle(canvas);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.lineWidth = Math.max(2, canvas.height / 120);
  pen.lineCap = "round";
  people.forEach((image, i) => {
    pen.strokeStyle = pen.fillStyle = colors.getPropertyValue(`--body-${i + 1}`);
    const at = ([x, y]) => [x * canvas.width, y * canvas.height];
    pen.beginPath();
    for (const [from, to] of BONES) {
      pen.moveTo(...at(image[from]));
      pen.lineTo(...at(image[to]));
    }
    pen.stroke();
    pen.beginPath();
    pen.arc(...at(image[NOSE]), 2 * pen.lineWidth, 0, 2 * Math.PI);
    pen.fill();
  });
}
