// The 25 joints of kinect25: their names, the bones between them, and movements as they come over the wire.

export const JOINTS = [
  "SpineBase", "SpineMid", "Neck", "Head",
  "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
  "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
  "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
  "HipRight", "KneeRight", "AnkleRight", "FootRight",
  "SpineShoulder", "HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight",
];
export const NUM_JOINTS = JOINTS.length;
export const HEAD = 3;
export const HANDS = [7, 11];

// [joint, joint, side]: the left side is drawn lighter, so that the two can be told apart.
export const BONES = [
  [0, 1, ""], [1, 20, ""], [20, 2, ""], [2, 3, ""],
  [20, 4, "left"], [4, 5, "left"], [5, 6, "left"], [6, 7, "left"], [7, 21, "left"], [7, 22, "left"],
  [20, 8, "right"], [8, 9, "right"], [9, 10, "right"], [10, 11, "right"], [11, 23, "right"], [11, 24, "right"],
  [0, 12, "left"], [12, 13, "left"], [13, 14, "left"], [14, 15, "left"],
  [0, 16, "right"], [16, 17, "right"], [17, 18, "right"], [18, 19, "right"],
];

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
}

// An answer with timestamps_s and joints_m as bytes: {times, joints (L * 75), startS, endS}. Missing joints are NaN.
export function movementFrom(answer) {
  return {
    times: new Float64Array(bytes(answer.timestamps_s)),
    joints: new Float32Array(bytes(answer.joints_m)),
    startS: answer.start_s,
    endS: answer.end_s,
  };
}

// A movement's frame in the shape of a live body: [[x, y, z] or null, ...].
export function frameAt(movement, index) {
  const frame = [];
  for (let j = 0; j < NUM_JOINTS; j += 1) {
    const at = 3 * (index * NUM_JOINTS + j);
    const x = movement.joints[at];
    frame.push(Number.isNaN(x) ? null : [x, movement.joints[at + 1], movement.joints[at + 2]]);
  }
  return frame;
}

// How fast the fastest of hands, feet and head goes in each frame, 0 to 1 of the movement's own fastest.
export function speeds(movement) {
  const watched = [7, 11, 15, 19, HEAD];
  const found = [0];
  for (let i = 1; i < movement.times.length; i += 1) {
    let fastest = 0;
    for (const j of watched) {
      const [now, before] = [3 * (i * NUM_JOINTS + j), 3 * ((i - 1) * NUM_JOINTS + j)];
      const way = Math.hypot(...[0, 1, 2].map((k) => movement.joints[now + k] - movement.joints[before + k]));
      if (way > fastest) fastest = way;
    }
    found.push(fastest / Math.max(1e-3, movement.times[i] - movement.times[i - 1]));
  }
  const smooth = found.map((_, i) => (found[Math.max(0, i - 1)] + found[i] + found[Math.min(found.length - 1, i + 1)]) / 3);
  const most = Math.max(...smooth, 1e-6);
  return smooth.map((speed) => speed / most);
}
