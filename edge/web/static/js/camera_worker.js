// MediaPipe's pose landmarker in a thread of its own: pictures in, landmarks out, one at a time.
//
// Gets {numPeople} once and answers {ready}; then {picture, takenMs} and answers {poses, width, height, takenMs,
// tookMs}. Any error is {error}. A pose is {picture, joints, visibility}, of 33 landmarks: shares of the picture, meters
// from the middle of the hips, 0 to 1.

// The networks look at 256 pixels a side; more only costs time on the way there.
const SIDE = 480;
const MODEL = new URL("/camera/model/", self.location.origin);

const canvas = new OffscreenCanvas(SIDE, SIDE);
const pen = canvas.getContext("2d", { alpha: false });
let landmarker = null;
let lastMs = -1;

self.addEventListener("message", async ({ data }) => {
  try {
    if (data.picture) look(data);
    else await load(data.numPeople);
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error) });
  }
});

async function load(numPeople) {
  const { PoseLandmarker } = await import(new URL("vision_bundle.mjs", MODEL));
  landmarker = await PoseLandmarker.createFromOptions(
    {
      wasmLoaderPath: new URL("vision_wasm_module_internal.js", MODEL).href,
      wasmBinaryPath: new URL("vision_wasm_module_internal.wasm", MODEL).href,
    },
    {
      baseOptions: { modelAssetPath: new URL("pose_landmarker.task", MODEL).href, delegate: "CPU" },
      runningMode: "VIDEO",
      numPoses: numPeople,
    },
  );
  self.postMessage({ ready: true });
}

function look({ picture, takenMs }) {
  const begunMs = performance.now();
  const { width, height } = picture;
  const long = Math.max(width, height);
  // MediaPipe turns a leaning body in the picture's own units: in a picture that is not square it bends limbs.
  const scale = canvas.width / long;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, 0, 0, width * scale, height * scale);
  picture.close();
  // The landmarker refuses a time that does not rise.
  lastMs = Math.max(lastMs + 1, takenMs);
  const found = landmarker.detectForVideo(canvas, lastMs);
  const poses = found.worldLandmarks.map((world, i) => ({
    picture: found.landmarks[i].map(({ x, y }) => [(x * long) / width, (y * long) / height]),
    joints: world.map(({ x, y, z }) => [x, y, z]),
    visibility: world.map(({ visibility }) => Math.min(Math.max(visibility ?? 1, 0), 1)),
  }));
  found.close();
  self.postMessage({ poses, width, height, takenMs, tookMs: performance.now() - begunMs });
}
