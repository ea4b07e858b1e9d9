"""The cameras `webcam` and `video`: MediaPipe in a Python of its own, on two real videos, and all that can be wrong.

No webcam is here: its pictures are tested with a camera made for the tests, and what opens one up to its errors.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
import pytest

from edge.cli import doctor
from streams.cameras import Camera, open_camera, set_up_webcam, validate_webcam
from streams.clients import EventSubscriber
from streams.errors import CameraError
from streams.frame import HIGH, NO_CONFIDENCE, SkeletonFrame
from streams.recording import RecordingWriter
from streams.sensors.webcam import People, Pose
from streams.sensors.webcam.pictures import Newest
from streams.webcam_settings import WebcamSettings

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, Serve

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
VIDEOS = Path(__file__).parents[2] / "shared" / "video"
SQUAT, CURL = VIDEOS / "gymtrainer_squat.mp4", VIDEOS / "gymtrainer_bicepcurl.mp4"
needs_videos = pytest.mark.skipif(not SQUAT.exists(), reason="needs ../shared/video")
# The person stands still before and after: the first picture and the last one, held.
_ROUNDS = """
import cv2, sys
source, target = cv2.VideoCapture(sys.argv[1]), sys.argv[2]
pictures = []
while (read := source.read())[0]:
    pictures.append(cv2.resize(read[1], (270, 480)))
video = cv2.VideoWriter(target, cv2.VideoWriter.fourcc(*"mp4v"), 30, (270, 480))
for picture in 3 * (45 * pictures[:1] + pictures + 36 * pictures[-1:]):
    video.write(picture)
video.release()
"""


@pytest.fixture(scope="session")
def folder() -> Path:
    """Return where `setup webcam` put it, once for all sessions of this machine; what it took is proved each time."""
    folder = platformdirs.user_cache_path("crossglg-edge-tests") / "webcam"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            validate_webcam(folder)
        except CameraError:
            try:
                set_up_webcam(folder)
            except CameraError as error:
                if error.code not in ("no_package", "no_python"):
                    raise
                pytest.skip(f"the webcam's Python cannot be set up: {error.message}")
    return folder


def open_video(path: Path, folder: Path, **settings: Any) -> Camera:
    chosen = WebcamSettings(folder=str(folder), **settings)
    return open_camera(f"video:{path}", frames_endpoint="", loop=False, webcam=chosen)


def play(camera: Camera) -> list[SkeletonFrame]:
    """Return all frames of a camera up to its end. Raises CameraError."""
    frames: list[SkeletonFrame] = []
    deadline_s = time.monotonic() + 60
    with closing(camera):
        while camera.wait_s(time.monotonic()) < math.inf:
            assert time.monotonic() < deadline_s, camera.state(time.monotonic())
            frames += [frame for frame in camera.read(time.monotonic(), 100) if isinstance(frame, SkeletonFrame)]
            time.sleep(0.01)
    return frames


def error_of(camera: Camera) -> CameraError:
    with pytest.raises(CameraError) as caught:
        play(camera)
    assert caught.value.hint
    return caught.value


# On real videos


@needs_videos
@pytest.mark.parametrize("video", [SQUAT, CURL], ids=lambda path: path.stem)
def test_an_action_is_enrolled_from_one_stretch_of_a_video_and_recognized_in_the_next(
    video: Path, folder: Path, serve: Serve, make_config: MakeConfig, tmp_path: Path
) -> None:
    rounds = tmp_path / "rounds.mp4"
    subprocess.run([folder / "bin" / "python", "-c", _ROUNDS, video, rounds], check=True)
    config = make_config(bundle=Path(doctor.__file__).parents[1] / "bundles" / "default")
    text = config.read_text(encoding="utf-8").replace("min_score = 0.85", "")
    # A machine that also runs other tests finds few poses a second.
    config.write_text(f'{text}\n[stream]\nmin_rate_fps = 2\n[webcam]\nfolder = "{folder}"\n', encoding="utf-8")
    daemon = serve(f"video:{rounds}", config=config)

    def process() -> dict[str, Any]:
        return dict(daemon.ask("status")["camera_process"])

    with closing(EventSubscriber(daemon.sockets.events, ("event.",))) as events:
        _wait(lambda: process()["age_s"] is not None)
        daemon.ask("enroll.start", label="exercise", countdown_s=0.3)
        _wait(lambda: daemon.ask("enroll.status")["state"] in ("done", "failed"))
        assert daemon.ask("enroll.status")["state"] == "done", daemon.ask("enroll.status")
        told = events.receive(30.0)
        assert told is not None
        assert (told[1]["type"], told[1]["label"]) == ("onset", "exercise")
    before = process()
    assert before["kind"] == "video"
    os.kill(before["pid"], signal.SIGKILL)
    _wait(lambda: process()["pid"] not in (None, before["pid"]) and process()["fps"] > 0)
    after = process()
    assert after["restarts"] == 1
    assert "SIGKILL" in after["last_error"]


def _wait(is_so: Any) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@needs_videos
def test_a_video_is_played_once_at_its_own_pace(folder: Path) -> None:
    camera = open_video(SQUAT, folder)
    frames = play(camera)
    state = camera.state(time.monotonic())
    assert state is not None
    assert len(frames) + state.num_skipped == 85, "none is lost without being counted"
    assert (state.state, state.last_error) == ("ended", "")
    times_s = np.array([frame.timestamp_s for frame in frames])
    assert (np.diff(times_s) > 0.03).all()
    assert times_s[-1] - times_s[0] > 2.0
    assert all(frame.timestamp_s <= frame.t_send_s for frame in frames)
    assert {frame.layout for frame in frames} == {"mediapipe33"}


# Every other picture, however long it takes: the bodies as they are sent, of the videos side by side.
_LOOK = """
import json, sys
from pathlib import Path
import cv2, numpy as np
sys.path.append(sys.argv[1])
from streams.frame import SkeletonFrame
from streams.sensors.webcam import People
from streams.sensors.webcam.pose import PoseFinder
videos = [cv2.VideoCapture(path) for path in sys.argv[4:]]
finder, people = PoseFinder(Path(sys.argv[2]), int(sys.argv[3])), People()
for number in range(0, 78, 2):
    picture = np.hstack([cv2.resize((video.read(), video.read())[1][1], (270, 480)) for video in videos])
    poses = finder.poses(picture, number / 30)
    bodies = tuple(people.bodies(poses, number / 30, picture.shape[1], 480))
    frame = SkeletonFrame(source="", epoch="", seq=0, timestamp_s=0, t_send_s=0, layout="mediapipe33", axes="RDF",
        bodies=bodies).to_kinect25()
    print(json.dumps([(body.id, body.joints_m.tolist()) for body in frame.bodies]))
"""


def look_at(folder: Path, people: int, *videos: Path) -> list[dict[int, Any]]:
    """Return the bodies of each picture: kinect25 joints by id."""
    model, root = folder / "pose_landmarker.task", Path(__file__).parents[1]
    command = [str(part) for part in (folder / "bin" / "python", "-c", _LOOK, root, model, people, *videos)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [{id: np.array(joints) for id, joints in json.loads(line)} for line in done.stdout.splitlines()]


@needs_videos
def test_in_a_squat_the_hips_go_down_and_the_feet_stay(folder: Path) -> None:
    seen = look_at(folder, 1, SQUAT)
    assert {id for bodies in seen for id in bodies} == {0}, "one person, all the time"
    assert len(seen) == sum(map(len, seen))
    heights_m = np.array([bodies[0][:, 1] for bodies in seen])
    hips_m, feet_m = heights_m[:, 0], heights_m[:, [14, 18]].mean(axis=1)
    assert np.ptp(hips_m) > 0.2
    assert np.ptp(feet_m) < np.ptp(hips_m) / 2
    assert heights_m[0, 3] - feet_m[0] > 1.0, "upright, in meters"
    left_m, right_m = seen[0][0][[12, 16], 0]
    assert right_m > left_m, "they face the camera"


@needs_videos
def test_two_people_keep_their_ids(folder: Path) -> None:
    seen = look_at(folder, 2, SQUAT, CURL)
    pairs = [bodies for bodies in seen if len(bodies) == 2]
    assert len(pairs) > 0.9 * len(seen)
    # In "LUF" the larger x is on the picture's left.
    assert len({max(bodies, key=lambda id: float(bodies[id][0, 0])) for bodies in pairs}) == 1


# What is wrong with it


def test_a_file_that_is_no_video_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello", encoding="utf-8")
    (tmp_path / "empty.mp4").touch()
    for name, why in (
        ("text.mp4", "it is no video"),
        ("empty.mp4", "it is empty"),
        ("missing.mp4", "No such file"),
    ):
        error = error_of(open_video(tmp_path / name, folder))
        assert error.code == "bad_video"
        assert why in error.message


def test_a_recording_that_never_begins_writes_over_nothing(folder: Path, tmp_path: Path) -> None:
    config, recording = tmp_path / "config.toml", tmp_path / "kept.mcap"
    config.write_text(f'[webcam]\nfolder = "{folder}"\n', encoding="utf-8")
    with RecordingWriter(recording):
        pass
    before = recording.read_bytes()
    video = f"video:{tmp_path / 'missing.mp4'}"
    command = [str(SCRIPT), "record", str(recording), "--overwrite", "--camera", video, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "missing.mp4 cannot be played" in done.stderr
    assert recording.read_bytes() == before


@needs_videos
def test_a_video_that_breaks_off_is_told(folder: Path, tmp_path: Path) -> None:
    content = bytearray(SQUAT.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    (tmp_path / "damaged.mp4").write_bytes(content)
    camera = open_video(tmp_path / "damaged.mp4", folder)
    frames = play(camera)
    assert 0 < len(frames) < 85
    (note,) = camera.take_notes()
    assert re.search(r"damaged.mp4 broke off after \d+ of 85 pictures", note.message)


def test_what_is_no_camera_is_refused_with_those_that_are_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for device, why in (("963", "there is no camera /dev/video963"), (str(tmp_path / "file"), "file is no camera")):
        camera = open_camera(f"webcam:{device}", frames_endpoint="", webcam=WebcamSettings(folder=str(folder)))
        error = error_of(camera)
        assert error.code == "no_camera"
        assert why in error.message
        assert "This machine has" in error.hint


def test_a_model_that_is_damaged_is_told(folder: Path, tmp_path: Path) -> None:
    # The Python is that of the tests: only its link and the model are here.
    for name in ("bin", "lib", "pyvenv.cfg", "webcam.json"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "pose_landmarker.task").write_bytes(b"no model")
    video = tmp_path / "video.avi"
    code = "import cv2, numpy, sys; v = cv2.VideoWriter(sys.argv[1], cv2.VideoWriter.fourcc(*'MJPG'), 30, (64, 64)); "
    code += "[v.write(numpy.zeros((64, 64, 3), 'u1')) for _ in range(9)]; v.release()"
    subprocess.run([folder / "bin" / "python", "-c", code, video], check=True)
    error = error_of(open_video(video, tmp_path))
    assert error.code == "no_model"
    assert "setup webcam" in error.hint
    (tmp_path / "pose_landmarker.task").unlink()
    with pytest.raises(CameraError, match=r"is damaged, pose_landmarker.task is missing"):
        open_video(video, tmp_path)


# Setting up


def test_a_camera_that_is_not_set_up_says_how(tmp_path: Path) -> None:
    for name in ("webcam", "webcam:1", "video:film.mp4"):
        with pytest.raises(CameraError, match="is not set up") as caught:
            open_camera(name, frames_endpoint="", webcam=WebcamSettings(folder=str(tmp_path)))
        assert "crossglg-edge setup webcam" in caught.value.hint


def test_a_set_up_without_network_says_so_and_its_half_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path)), ("PIP_CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(name, value)
    half = tmp_path / "webcam"
    with pytest.raises(CameraError, match="pip cannot get mediapipe") as caught:
        set_up_webcam(half)
    if caught.value.code == "no_python":
        pytest.skip(caught.value.message)
    assert caught.value.code == "no_package"
    assert "network" in caught.value.hint
    with pytest.raises(CameraError, match="was begun and not finished"):
        validate_webcam(half)


def _link(source: str, target: str) -> None:
    """Spare the disk 300 MB where it can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def test_a_set_up_is_finished_where_it_broke_off(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "webcam"
    shutil.copytree(folder, copy, symlinks=True, copy_function=_link)
    packages = next(copy.glob("lib/python3.*/site-packages"))
    (copy / "webcam.json").unlink()
    (copy / "pose_landmarker.task").unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    set_up_webcam(copy)
    validate_webcam(copy)
    network = packages / "mediapipe" / "modules" / "pose_detection" / "pose_detection.tflite"
    network.unlink()  # not written over: it is also that of the other tests
    network.write_bytes(b"half")
    with pytest.raises(CameraError, match=r"pose_detection.tflite of mediapipe==0.10.21 has") as caught:
        set_up_webcam(copy)
    assert caught.value.code == "not_proved"
    with pytest.raises(CameraError, match="was begun and not finished"):
        validate_webcam(copy)


def test_a_python_that_runs_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="cannot make a folder for packages") as caught:
        set_up_webcam(tmp_path / "webcam", Path("/bin/false"))
    assert caught.value.code == "no_python"


# Pictures and people


class Lens:
    """A camera as OpenCV has it, whose pictures come when the test says so."""

    def __init__(self) -> None:
        self.exposed = threading.Semaphore(0)
        self.number, self.num_pictures = 0, 1000
        self.stamp_ms = 0.0

    def grab(self) -> bool:
        self.exposed.acquire()
        self.number += 1
        return self.number <= self.num_pictures

    def get(self, _: int) -> float:
        return self.stamp_ms

    def retrieve(self) -> tuple[bool, int]:
        return True, self.number


@pytest.fixture
def lens() -> Iterator[Lens]:
    lens = Lens()
    yield lens
    lens.num_pictures = 0
    lens.exposed.release()


def test_the_newest_picture_wins_and_those_before_are_counted(lens: Lens) -> None:
    newest = Newest(lens, stamp=0)
    assert newest.take(0.01) is None
    for _ in range(3):
        lens.exposed.release()
    _wait(lambda: newest.num_skipped == 2)
    picture = newest.take(1.0)
    assert picture is not None
    assert picture.pixels == 3
    assert newest.take(0.01) is None
    lens.num_pictures = 3
    lens.exposed.release()
    _wait(lambda: newest.is_over)
    assert newest.take(60.0) is None, "it does not wait for a camera that is gone"


def test_a_cameras_own_stamp_is_taken_where_it_is_of_this_clock(lens: Lens) -> None:
    newest = Newest(lens, stamp=0)
    for stamp_s, is_taken in ((time.monotonic() - 0.02, True), (0.0, False), (time.time(), False)):
        lens.stamp_ms = 1000 * stamp_s
        lens.exposed.release()
        picture = newest.take(5.0)
        assert picture is not None
        assert (abs(picture.timestamp_s - stamp_s) < 1e-6) == is_taken
        assert abs(picture.timestamp_s - time.monotonic()) < 1.0


RNG = np.random.default_rng(0)
JOINTS_M = (RNG.normal(size=(33, 3)) * (0.2, 0.5, 0.1)).astype(np.float32)
JOINTS_M -= JOINTS_M[[23, 24]].mean(axis=0)


def pose_at(place_m: tuple[float, float, float], *, focal_length: float = 1.0) -> Pose:
    """Return the pose of a body at a place, as a camera of 640 x 480 pixels sees it."""
    joints = JOINTS_M + np.array(place_m, np.float32)
    seen = focal_length * joints[:, :2] / joints[:, 2:] * (1.0, 640 / 480) + 0.5
    return Pose(picture_J2=seen.astype(np.float32), joints_m=JOINTS_M, visibility_J=np.ones(33, np.float32))


def test_a_body_is_placed_where_the_picture_shows_it() -> None:
    people = People()
    for number, place_m in enumerate([(0.0, 0.0, 3.0), (0.1, -0.2, 3.0), (0.3, 0.1, 3.0)]):
        (body,) = people.bodies([pose_at(place_m)], number / 3, 640, 480)
        assert body.id == 0
        np.testing.assert_allclose(body.joints_m, JOINTS_M + np.array(place_m, np.float32), atol=1e-3)


def test_another_lens_changes_the_distance_alone() -> None:
    (body,) = People().bodies([pose_at((0.3, -0.2, 3.0), focal_length=1.3)], 0.0, 640, 480)
    place_m = body.joints_m[[23, 24]].mean(axis=0)
    np.testing.assert_allclose(place_m[:2], (0.3, -0.2), atol=0.03)
    assert place_m[2] == pytest.approx(3.0 / 1.3, rel=0.1)


def test_people_who_are_near_each_other_keep_their_ids_and_who_was_gone_is_another_one() -> None:
    people, first = People(), dict[int, float]()
    left, right, order = -0.8, 0.8, 1
    for number in range(60):
        left, right = left + 0.012, right - 0.012
        poses = [pose_at((left, 0.0, 3.0)), pose_at((right, 0.0, 3.0))][::order]
        order = -order  # the model gives them in any order
        bodies = people.bodies(poses, number / 30, 640, 480)
        places = {body.id: float(body.joints_m[[23, 24], 0].mean()) for body in bodies}
        assert len(places) == 2
        first = first or places
        assert all((places[id] < 0) == (first[id] < 0) for id in first)
    (still,) = people.bodies([pose_at((left, 0.0, 3.0))], 2.5, 640, 480)
    assert still.id in first
    (again,) = people.bodies([pose_at((left, 0.0, 3.0))], 4.0, 640, 480)
    assert again.id not in first


def test_a_joint_that_is_a_guess_does_not_count_and_a_pose_of_guesses_is_none() -> None:
    pose = pose_at((0.0, 0.0, 3.0))
    pose.visibility_J[25:] = 0.02
    (body,) = People().bodies([pose], 0.0, 640, 480)
    assert set(body.confidence[:25]) == {HIGH}
    assert set(body.confidence[25:]) == {NO_CONFIDENCE}
    pose.visibility_J[:] = 0.02
    assert People().bodies([pose], 0.0, 640, 480) == []
