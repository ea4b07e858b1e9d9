// This device's camera as a source of the daemon: the picture stays in the browser, the joints of each person go out.

const WIDTH = 640, HEIGHT = 480, FPS = 30;
// What waits to be sent is old when it arrives: a newer frame is better.
const MAX_WAITING_BYTES = 32 * 1024;
// While the model loads, messages without a frame tell the server how far its clock is from this one.
const NUM_CLOCK_MESSAGES = 10, CLOCK_EVERY_MS = 100;
const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 8000;
// The first picture compiles the networks: seconds on a phone.
const STUCK_MS = 30_000;
// The rate is of the last so many frames.
const NUM_FOR_RATE = 30;
// Codes of the server, browser_camera.py.
const FINAL_CODES = new Map([
  [4001, "Another page sends under this name now. Choose another name."],
  [4002, "As many browsers as the server takes are cameras already. Stop one of them."],
  [4003, "The server does not take this name. Use letters and digits."],
]);
const CAMERA_ERRORS = new Map([
  ["NotAllowedError", "The browser was not allowed to use the camera. Allow it in the site's settings, beside the address, then start again."],
  ["NotFoundError", "This device has no camera, or the browser does not see it."],
  ["NotReadableError", "The camera is in use by another program, or the system does not give it. Close the other program, then start again."],
  ["OverconstrainedError", "That camera is not there any more. Choose another one."],
]);

export class CameraError extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

// Dispatches "change" whenever `state`, `source` or `counts` has changed, "people" with what the last picture shows
// (for each, 33 x [x, y] as shares of it), and "error" with a CameraError in its detail, after which the camera is off.
export class BrowserCamera extends EventTarget {
  // "off", "starting", "on", "paused" (nobody sees the page) or "offline" (the server does not answer).
  state = "off";
  // The name that the daemon knows, once the server has told it.
  source = "";
  // skipped: pictures that came while another was looked at; unsent: frames that the network did not take in time.
  counts = null;
  video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });

  #name = "";
  #run = 0;
  #stream = null;
  #worker = null;
  #socket = null;
  #waitMs = FIRST_WAIT_MS;
  #reconnect = 0;
  #wakeLock = null;
  #lookedAtMs = 0;
  #isBusy = false;
  #seq = 0;
  #sentAtMs = [];

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("online", () => this.isOn && !this.#socket && this.#connect());
  }

  get isOn() {
    return this.state !== "off";
  }

  // Frames a second that were sent lately.
  get fps() {
    const [first, last] = [this.#sentAtMs[0], this.#sentAtMs.at(-1)];
    const silentMs = Math.max(performance.now() - last, 0);
    return this.#sentAtMs.length > 1 ? (1000 * (this.#sentAtMs.length - 1)) / (last - first + silentMs) : 0;
  }

  get isMirrored() {
    return this.#stream?.getVideoTracks()[0]?.getSettings().facingMode !== "environment";
  }

  // `deviceId`: of one camera; or `facing`: "user" or "environment". Returns once pictures come, or after an "error".
  async start({ name, deviceId = "", facing = "user", numPeople = 1 }) {
    this.stop();
    const run = ++this.#run;
    this.#name = name;
    this.source = "";
    this.counts = { looked: 0, sent: 0, skipped: 0, unsent: 0, tookMs: 0, published: 0, refused: {} };
    this.#seq = 0;
    this.#sentAtMs = [];
    this.#become("starting");
    try {
      await checkHere();
      const stream = await openCamera(deviceId, facing);
      if (run !== this.#run) return stopStream(stream);
      this.#stream = stream;
      stream.getVideoTracks()[0].addEventListener("ended", () => {
        if (run === this.#run) this.#fail(new CameraError("The camera was taken away or unplugged.", "Start again."));
      });
      this.video.srcObject = stream;
      this.#connect();
      await Promise.all([this.video.play(), this.#load(numPeople, run)]);
      if (run !== this.#run) return;
      this.#become("on");
      this.#seen();
      this.#watch(run);
    } catch (error) {
      if (run === this.#run) this.#fail(error);
    }
  }

  stop() {
    this.#run++;
    clearTimeout(this.#reconnect);
    stopStream(this.#stream);
    this.#worker?.terminate();
    const socket = this.#socket;
    this.#stream = this.#worker = this.#socket = null;
    socket?.close();
    this.video.srcObject = null;
    this.#isBusy = false;
    this.#wakeLock?.release();
    this.#wakeLock = null;
    if (this.isOn) this.#become("off");
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("change"));
  }

  #fail(error) {
    this.stop();
    const known = error instanceof CameraError ? error : new CameraError(CAMERA_ERRORS.get(error.name) ?? String(error));
    this.dispatchEvent(new CustomEvent("error", { detail: known }));
  }

  #load(numPeople, run) {
    const worker = new Worker("/camera/worker.js", { type: "module" });
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      worker.addEventListener("message", ({ data }) => {
        if (run !== this.#run) return;
        if (data.ready) resolve();
        else if (data.poses) this.#found(data);
        else {
          const error = new CameraError(`The pose model failed: ${data.error}`);
          reject(error);
          if (this.state !== "starting") this.#fail(error);
        }
      });
      worker.addEventListener("error", (event) => {
        reject(new CameraError("The pose model could not be loaded.", event.message ?? ""));
      });
      worker.postMessage({ numPeople });
    });
  }

  // Take each picture that comes while none is looked at; the newest wins.
  #watch(run) {
    const next = (callback) =>
      this.video.requestVideoFrameCallback
        ? this.video.requestVideoFrameCallback(callback)
        : requestAnimationFrame((nowMs) => callback(nowMs, {}));
    const step = async (nowMs, { captureTime }) => {
      if (run !== this.#run) return;
      next(step);
      if (this.#isBusy) {
        this.counts.skipped++;
        if (nowMs - this.#lookedAtMs > STUCK_MS) {
          this.#fail(new CameraError("The pose model does not answer any more.", "Start again, or use a faster device."));
        }
        return;
      }
      this.#isBusy = true;
      this.#lookedAtMs = nowMs;
      try {
        const picture = await createImageBitmap(this.video);
        if (run !== this.#run) return picture.close();
        // Not every browser tells when a camera's picture was taken.
        const takenMs = Math.abs(nowMs - captureTime) < 1000 ? captureTime : nowMs;
        this.#worker.postMessage({ picture, takenMs }, [picture]);
      } catch {
        this.#isBusy = false; // the video has no picture just now
      }
    };
    next(step);
  }

  #found({ poses, width, height, takenMs, tookMs }) {
    this.#isBusy = false;
    this.counts.looked++;
    // The first one compiles the networks.
    this.counts.tookMs = this.counts.looked <= 2 ? tookMs : 0.9 * this.counts.tookMs + 0.1 * tookMs;
    this.#send({ seq: this.#seq++, taken_ms: takenMs, width, height, poses: poses.map(short) });
    this.dispatchEvent(new CustomEvent("people", { detail: poses.map(({ picture }) => picture) }));
    this.dispatchEvent(new CustomEvent("change"));
  }

  #send(frame) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN || socket.bufferedAmount > MAX_WAITING_BYTES) {
      this.counts.unsent++;
      return;
    }
    const sentMs = performance.now();
    socket.send(JSON.stringify({ sent_ms: sentMs, frame }));
    this.counts.sent++;
    this.#sentAtMs.push(sentMs);
    if (this.#sentAtMs.length > NUM_FOR_RATE) this.#sentAtMs.shift();
  }

  #connect() {
    clearTimeout(this.#reconnect);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/camera/frames?name=${encodeURIComponent(this.#name)}`);
    this.#socket = socket;
    socket.addEventListener("open", async () => {
      this.#waitMs = FIRST_WAIT_MS;
      if (this.state === "offline") this.#become(document.hidden ? "paused" : "on");
      for (let i = 0; i < NUM_CLOCK_MESSAGES && socket.readyState === WebSocket.OPEN; i++) {
        socket.send(JSON.stringify({ sent_ms: performance.now() }));
        await new Promise((resolve) => setTimeout(resolve, CLOCK_EVERY_MS));
      }
    });
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.#socket) return;
      const told = JSON.parse(data);
      this.source = told.source;
      Object.assign(this.counts, { published: told.frames, refused: told.refused });
      this.dispatchEvent(new CustomEvent("change"));
    });
    socket.addEventListener("close", ({ code }) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (FINAL_CODES.has(code)) return this.#fail(new CameraError(FINAL_CODES.get(code)));
      if (this.state !== "starting") this.#become("offline");
      this.#reconnect = setTimeout(() => this.#connect(), this.#waitMs);
      this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    });
  }

  // Browsers give no pictures to a page that nobody sees; while it is seen the screen is to stay on.
  async #seen() {
    if (this.state === "on" || this.state === "paused") this.#become(document.hidden ? "paused" : "on");
    if (this.state !== "on" || !navigator.wakeLock) return;
    try {
      this.#wakeLock = await navigator.wakeLock.request("screen");
      if (!this.isOn) this.#wakeLock.release();
    } catch {
      this.#wakeLock = null; // a low battery: the screen goes off by itself
    }
  }
}

// The cameras that there are; their names are empty until the browser was allowed to use one.
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
}

async function checkHere() {
  if (!isSecureContext || !navigator.mediaDevices) {
    throw new CameraError(
      "A browser gives its camera to a page at https:// or at localhost only.",
      "On the device itself open http://localhost:PORT. For other devices, run `crossglg-edge setup web-access` there.",
    );
  }
  let state;
  try {
    state = await (await fetch("/camera/state")).json();
  } catch {
    throw new CameraError("The page's server does not answer.", "Is `crossglg-edge web` still running?");
  }
  if (state.problem) throw new CameraError(state.problem.message, state.problem.hint);
}

async function openCamera(deviceId, facing) {
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: facing };
  const wish = { ...which, width: { ideal: WIDTH }, height: { ideal: HEIGHT }, frameRate: { ideal: FPS } };
  return navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
}

function stopStream(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

// A tenth of a millimeter, and hundredths of what is seen: a third of the bytes. What is farther away is nonsense.
function short({ picture, joints, visibility }) {
  const round = (value, digits) => Math.round(Math.min(Math.max(value, -10), 10) * digits) / digits;
  return {
    picture: picture.map((point) => point.map((value) => round(value, 1e4))),
    joints: joints.map((point) => point.map((value) => round(value, 1e4))),
    visibility: visibility.map((value) => round(value, 100)),
  };
}
