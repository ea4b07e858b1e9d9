"""Descriptions of actions: the prompts, a language model behind a real HTTP server, the files, the shipped texts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.errors import CrossGLGError, DescriptionError, LlmError
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from training.data.kinetics import kinetics_protocols
from training.data.ntu import ACTIONS, ntu_protocols
from training.texts.describe import (
    ANY_SHIPPED,
    ORIGIN,
    SHIPPED,
    Style,
    available_llms,
    chosen_texts,
    global_prompt,
    joint_prompt,
    prompt_version,
    read_descriptions,
    read_origin,
    spoken_joint,
)

pytest.importorskip("httpx2", reason="asking a language model needs httpx2, of the extra `text`")

from training.texts.llm import ATTEMPTS, Chat, describe_actions
from training.texts.repeats import repeated_sentences

SCRIPT = str(Path(sys.executable).with_name("crossglg-edge"))
PROTOCOL = Path(__file__).parents[2] / "shared" / "data" / "protocol.json"

# The language model

Reply = tuple[int, dict[str, str], str]
Answer = Callable[[dict[str, Any]], Reply]


def completion(content: str | None, finish_reason: str = "stop") -> Reply:
    message = {"role": "assistant", "content": content}
    return 200, {}, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]})


def refusal(status: int, message: str, **headers: str) -> Answer:
    return lambda _: (status, {k.replace("_", "-"): v for k, v in headers.items()}, error_body(message))


def error_body(message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "some_error"}})


def says(content: str) -> Answer:
    return lambda _: completion(content)


def well(request: dict[str, Any]) -> Reply:
    return completion(json.dumps(good_texts(request)))


def good_texts(request: dict[str, Any]) -> dict[str, Any]:
    """Fill the form that the prompt asks for, as a model would."""
    form = json.loads(request["messages"][0]["content"].splitlines()[-1])
    action = asked_for(request)
    joints = {joint: f"In {action} the {spoken} moves\nup and down." for joint, spoken in form["joints"].items()}
    return {"global": f"To {action}, one arm is raised and the hand goes up and down.", "joints": joints}


def asked_for(request: dict[str, Any]) -> str:
    action: str = re.findall(r"\[(.*?)\]", request["messages"][0]["content"])[0]
    return action


class Model:
    """Serve chat completions: the script's answers first, then good ones. `requests` and `keys` are what came."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.requests.append(request)
                model.keys.append(self.headers["Authorization"])
                answer = model.script.pop(0) if model.script else well
                status, headers, body = answer(request) if self.path == "/v1/chat/completions" else (404, {}, "Oh no")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                # Who gave up or was killed reads no answer.
                try:
                    self.wfile.write(body.encode())
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def asked(self) -> list[str]:
        return [asked_for(request) for request in self.requests]

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "texts" / "tiny"


def ask(
    url: str, folder: Path, *actions: str, layout: str = "kinect25", name: str = "tiny", key: str = "",
    timeout_s: float = 10.0, pause_s: float = 0.001,
) -> tuple[dict[str, str], list[str]]:  # fmt: skip
    """Return the actions that failed, and why anything was asked again."""
    retries: list[str] = []
    chat = Chat(url, name, api_key=key, timeout_s=timeout_s)
    try:
        failed = describe_actions(
            actions, chat, folder, LAYOUTS[layout], date="2026-11-23", on_progress=lambda _: None,
            on_retry=lambda action, reason: retries.append(f"{action}: {reason}"), pause_s=pause_s,
        )  # fmt: skip
    finally:
        chat.close()
    return failed, retries


def describe(url: str, *args: object, **env: str) -> subprocess.Popen[str]:
    command = [SCRIPT, "describe", "--llm", url, "--model", "tiny", *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200", **env})


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return err


# Prompts


def test_the_joints_of_every_layout_have_spoken_names_of_their_own() -> None:
    for layout in LAYOUTS.values():
        spoken = [spoken_joint(joint) for joint in layout.joints]
        assert len(set(spoken)) == layout.num_joints
        assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in spoken), spoken
    assert [spoken_joint(joint) for joint in ("SpineBase", "HandTipLeft", "LElbow", "right_foot_index")] == [
        "base of the spine", "tip of the left hand", "left elbow", "tip of the right foot"
    ]  # fmt: skip


def test_both_prompts_of_an_action_reach_the_model(model: Model, folder: Path) -> None:
    ask(model.url, folder, "drink {tea}")
    (prompt,) = (message["content"] for message in model.requests[0]["messages"])
    assert global_prompt("drink {tea}") in prompt
    assert joint_prompt("drink {tea}", KINECT25_JOINTS) in prompt
    assert "[drink {tea}]" in prompt
    assert "base of the spine, middle of the spine, neck, head, left shoulder" in prompt


def test_the_contrastive_style_asks_for_differences_and_has_a_folder_of_its_own(model: Model, tmp_path: Path) -> None:
    finish(describe(model.url, "wave", "--out", tmp_path))
    finish(describe(model.url, "wave", "--out", tmp_path, "--style", "contrastive"))
    prompts = [request["messages"][0]["content"] for request in model.requests]
    assert [global_prompt("wave") in prompt for prompt in prompts] == [True, False]
    assert [joint_prompt("wave", KINECT25_JOINTS, "contrastive") in prompt for prompt in prompts] == [False, True]
    assert "differs from the actions that look most like it" in prompts[1]
    assert read_origin(tmp_path / "tiny-contrastive").prompt == prompt_version("contrastive") != prompt_version()
    with pytest.raises(DescriptionError) as refused:
        read_descriptions(tmp_path / "tiny-contrastive", ["bow"])
    assert f"describe bow --llm URL --model tiny --style contrastive --out {tmp_path}" in refused.value.hint


def test_texts_of_two_styles_are_not_mixed(model: Model, tmp_path: Path) -> None:
    finish(describe(model.url, "wave", "--out", tmp_path))
    (tmp_path / "tiny").rename(tmp_path / "tiny-contrastive")
    err = finish(describe(model.url, "bow", "--out", tmp_path, "--style", "contrastive"), code=2)
    assert f"{prompt_version('contrastive')} (contrastive)" in err
    assert model.asked == ["wave"]


# Asking


def test_an_answer_is_written_as_a_file_that_reads_back(model: Model, folder: Path) -> None:
    assert ask(model.url, folder, "wave", "sit down / rest") == ({}, [])
    read = read_descriptions(folder)
    assert set(read) == {"wave", "sit down / rest"}
    assert read["wave"].global_text == "To wave, one arm is raised and the hand goes up and down."
    assert read["wave"].joints[21] == "In wave the tip of the left hand moves up and down."
    assert (folder / "sit_down_rest.json").is_file()
    origin = read_origin(folder)
    assert (origin.llm, origin.model, origin.server) == ("tiny", "tiny", "127.0.0.1")
    assert (origin.prompt, origin.date) == (prompt_version(), "2026-11-23")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layouts_joints_are_described_in_their_order(model: Model, folder: Path, layout: str) -> None:
    def backwards(request: dict[str, Any]) -> Reply:
        texts = good_texts(request)
        return completion(json.dumps({"joints": dict(reversed(texts["joints"].items())), "global": texts["global"]}))

    model.script = [backwards]
    ask(model.url, folder, "wave", layout=layout)
    described = read_descriptions(folder)["wave"]
    assert described.layout == layout
    spoken = [spoken_joint(joint) for joint in LAYOUTS[layout].joints]
    assert list(described.joints) == [f"In wave the {joint} moves up and down." for joint in spoken]


def test_the_schema_of_an_answer_names_every_joint_and_no_other(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    schema = model.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["joints"]
    assert schema["required"] == list(schema["properties"]) == list(KINECT25_JOINTS)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_without_schemas_is_asked_for_plain_json(model: Model, folder: Path, status: int) -> None:
    model.script = [refusal(status, "response_format type must be one of text or json_object")]
    assert ask(model.url, folder, "wave", "bow") == ({}, [])
    assert ["response_format" in request for request in model.requests] == [True, False, False]


@pytest.mark.parametrize("frame", ["```json\n{}\n```", "Here it is:\n{}\nI hope it helps.", "<think>{{}}</think>\n{}"])
def test_json_is_found_in_fences_and_after_thoughts(model: Model, folder: Path, frame: str) -> None:
    before, _, after = frame.replace("{{}}", "{ hm }").partition("{}")
    model.script = [lambda request: completion(before + json.dumps(good_texts(request)) + after)]
    assert ask(model.url, folder, "wave") == ({}, [])
    assert set(read_descriptions(folder)) == {"wave"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_and_that_is_told(model: Model, folder: Path, status: int) -> None:
    model.script = [refusal(status, "too many \x1b[31m requests", Retry_After="0")] * (ATTEMPTS - 1)
    failed, retries = ask(model.url, folder, "wave")
    assert failed == {}
    assert len(retries) == ATTEMPTS - 1
    assert f"{status} " in retries[0]
    assert "\x1b" not in retries[0]
    assert model.asked == ["wave"] * ATTEMPTS


def test_retry_after_is_waited_for(model: Model, folder: Path) -> None:
    arrived: list[float] = []

    def busy(request: dict[str, Any]) -> Reply:
        arrived.append(time.monotonic())
        return refusal(429, "slow down", Retry_After="1")(request)

    def free(request: dict[str, Any]) -> Reply:
        arrived.append(time.monotonic())
        return well(request)

    model.script = [busy, free]
    ask(model.url, folder, "wave")
    assert arrived[1] - arrived[0] >= 1


def without(joint: str) -> Answer:
    def answer(request: dict[str, Any]) -> Reply:
        texts = good_texts(request)
        del texts["joints"][joint]
        return completion(json.dumps(texts))

    return answer


def with_joints(**joints: Any) -> Answer:
    def answer(request: dict[str, Any]) -> Reply:
        texts = good_texts(request)
        return completion(json.dumps({**texts, "joints": {**texts["joints"], **joints}}))

    return answer


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (says("I am only a parrot."), "no JSON object"),
        (says("{" * 100_000 + "}"), "no JSON object"),
        (says('{"global": "A person raises one arm and waves the hand to and fro."}'), "joints"),
        (says(""), "empty"),
        (lambda _: completion(None), "empty"),
        (lambda _: completion('{"global": "A pers', finish_reason="length"), "cut off"),
        (without("ElbowLeft"), "ElbowLeft is missing"),
        (with_joints(Tail="The tail wags from left to right."), "Tail was not asked for"),
        (with_joints(Head=" "), "Head has 0 words"),
        (with_joints(Head="nod " * 60), "Head has 60 words"),
        (with_joints(Head=["The head nods."]), "Expected `str`"),
    ],
)
def test_an_answer_that_fails_is_asked_again_with_the_complaint(
    model: Model, folder: Path, answer: Answer, complaint: str
) -> None:
    model.script = [answer]
    failed, (retry,) = ask(model.url, folder, "wave")
    assert failed == {}
    assert complaint in retry
    first, said, last = model.requests[1]["messages"]
    assert (first, said["role"]) == (model.requests[0]["messages"][0], "assistant")
    assert complaint in last["content"]
    assert set(read_descriptions(folder)) == {"wave"}


def test_a_sentence_that_two_joints_share_is_asked_for_again(model: Model, folder: Path) -> None:
    model.script = [with_joints(HipLeft="Stays still below.", HipRight="stays  still, below", Head="Stays still below")]
    failed, (retry,) = ask(model.url, folder, "wave")
    assert failed == {}
    complaint = (
        "Head, HipLeft and HipRight share the sentence 'Stays still below', "
        "expected one of its own for each, on how it moves in 'wave'"
    )
    assert complaint in retry
    assert complaint in model.requests[1]["messages"][-1]["content"]
    assert repeated_sentences(read_descriptions(folder).values()) == []


def test_a_sentence_that_another_action_has_is_asked_for_again(model: Model, folder: Path) -> None:
    still = with_joints(HipLeft="Stays still below the arm.")
    model.script = [still]
    ask(model.url, folder, "wave")
    model.script = [still, well, still]
    failed, retries = ask(model.url, folder, "bow", "clap")
    assert failed == {}
    assert ["HipLeft and HipLeft of 'wave' share" in retry for retry in retries] == [True, True]
    assert model.asked == ["wave", "bow", "bow", "clap", "clap"]


def test_a_model_that_only_repeats_is_told_and_nothing_is_written(model: Model, tmp_path: Path) -> None:
    model.script = [with_joints(HipLeft="It stays still.", HipRight="It stays still.")] * ATTEMPTS
    err = finish(describe(model.url, "wave", "bow", "--out", tmp_path), code=2)
    assert "wave: HipLeft and HipRight share the sentence 'It stays still.'" in err
    assert "take a larger model" in err
    assert set(read_descriptions(tmp_path / "tiny")) == {"bow"}


def test_a_kept_text_that_repeats_another_is_read_and_asked_for_again(model: Model, folder: Path) -> None:
    """An earlier version wrote such texts: they still open, and the same command renews the later one."""
    ask(model.url, folder, "wave", "bow", "clap")
    for action in ("wave", "bow"):
        path = folder / f"{action}.json"
        file = json.loads(path.read_bytes())
        file["joints"]["Head"] = "The head stays level."
        path.write_text(json.dumps(file), encoding="utf-8")
    (repeat,) = repeated_sentences(read_descriptions(folder).values())
    assert "Head and Head of 'bow' share" in repeat, "texts are read in the order of their files' names"
    _, (notice,) = ask(model.url, folder, "wave", "bow", "clap")
    assert notice.startswith(f"bow: {folder / 'bow.json'}: Head and Head of 'wave' share the sentence")
    assert model.asked == ["wave", "bow", "clap", "bow"]
    assert repeated_sentences(read_descriptions(folder).values()) == []


def test_a_damaged_text_that_is_not_asked_for_stops_no_other(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    (folder / "wave.json").write_text("{", encoding="utf-8")
    assert ask(model.url, folder, "bow") == ({}, [])
    assert (folder / "wave.json").read_text(encoding="utf-8") == "{"


def test_an_action_without_a_valid_answer_stops_no_other(model: Model, tmp_path: Path) -> None:
    model.script = [says("Never.")] * ATTEMPTS
    process = describe(model.url, "wave", "bow", "--out", tmp_path)
    err = finish(process, code=2)
    assert "bad_answer" in err
    assert "wave" in err
    assert "1 of 2 actions described" in err
    assert model.asked == ["wave"] * ATTEMPTS + ["bow"]
    assert set(read_descriptions(tmp_path / "tiny")) == {"bow"}


# A server that does not answer


def test_a_refused_key_is_told_at_once_and_never_shown(model: Model, tmp_path: Path) -> None:
    model.script = [refusal(401, "Incorrect API key provided")]
    err = finish(describe(model.url, "wave", "--out", tmp_path, OPENAI_API_KEY="sk-secret"), code=2)
    assert model.keys == ["Bearer sk-secret"]
    assert "401" in err
    assert "OPENAI_API_KEY" in err
    files = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json")]
    assert "sk-secret" not in "".join([err, *files])


def test_a_key_that_is_no_header_is_refused_unshown(model: Model, folder: Path) -> None:
    with pytest.raises(LlmError) as refused:
        ask(model.url, folder, "wave", key="sk-\nsecret")
    assert "secret" not in refused.value.message
    assert not model.requests


def test_no_key_is_sent_where_none_is_set(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    assert model.keys == [None]


@pytest.mark.parametrize("path", ["", "/v2/api"])
def test_a_wrong_path_is_told_with_the_hint_at_v1(model: Model, folder: Path, path: str) -> None:
    with pytest.raises(LlmError, match="404") as refused:
        ask(model.url.replace("/v1", path), folder, "wave")
    assert "/v1" in refused.value.hint
    assert "'tiny'" in refused.value.hint
    assert len(model.requests) == 1


@pytest.mark.parametrize("ending", ["/", "/chat/completions"])
def test_the_url_may_end_as_people_write_it(model: Model, folder: Path, ending: str) -> None:
    assert ask(model.url + ending, folder, "wave") == ({}, [])


def test_a_web_page_is_no_language_model(model: Model, folder: Path) -> None:
    model.script = [lambda _: (200, {}, "<html>Welcome</html>")]
    with pytest.raises(LlmError, match="no chat completion: '<html>Welcome"):
        ask(model.url, folder, "wave")


@pytest.mark.parametrize("url", ["localhost:8080/v1", "file:///etc/passwd", "http://", "", "http://[::1", "ftp://x/v1"])
def test_a_wrong_url_is_refused_before_anything_is_written(folder: Path, url: str) -> None:
    with pytest.raises(LlmError) as refused:
        ask(url, folder, "wave")
    assert refused.value.code == "bad_url"
    assert not folder.exists()


def test_a_server_that_is_not_there_is_told_after_bounded_attempts(model: Model, folder: Path) -> None:
    ask(model.url, folder, "bow")
    gone = Model()
    gone.close()
    with pytest.raises(LlmError, match=f"cannot be reached.*{ATTEMPTS} attempts") as refused:
        ask(gone.url.replace("//", "//user:password@"), folder, "bow", "wave")
    assert refused.value.code == "llm_unreachable"
    assert "password" not in refused.value.message
    assert set(read_descriptions(folder)) == {"bow"}


def test_a_slow_model_is_told_and_how_to_give_it_more_time(model: Model, folder: Path) -> None:
    answered = threading.Event()

    def slow(request: dict[str, Any]) -> Reply:
        answered.wait(20)
        return well(request)

    model.script = [slow]
    with pytest.raises(LlmError, match=r"did not answer within 0\.2 s") as refused:
        ask(model.url, folder, "wave", timeout_s=0.2)
    answered.set()
    assert "--timeout" in refused.value.hint
    assert len(model.requests) == 1


# Going on


def test_a_killed_describe_goes_on_where_it_stopped(model: Model, tmp_path: Path) -> None:
    asked, released = threading.Event(), threading.Event()

    def never(request: dict[str, Any]) -> Reply:
        asked.set()
        released.wait(30)
        return well(request)

    model.script = [well, well, never]
    actions = ["wave", "bow", "clap", "jump"]
    process = describe(model.url, *actions, "--out", tmp_path)
    assert asked.wait(30)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    released.set()
    assert set(read_descriptions(tmp_path / "tiny")) == {"wave", "bow"}

    err = finish(describe(model.url, *actions, "--out", tmp_path))
    assert "4 of 4 actions described" in err
    assert model.asked == ["wave", "bow", "clap", "clap", "jump"]
    assert set(read_descriptions(tmp_path / "tiny", actions)) == set(actions)
    assert not [path for path in (tmp_path / "tiny").iterdir() if path.suffix != ".json"]


@pytest.mark.parametrize("damage", ["", '{"action": "wave", "glo', '{"action": "wave", "global": "x", "joints": {}}'])
def test_only_what_has_no_valid_file_is_asked_for(model: Model, folder: Path, damage: str) -> None:
    ask(model.url, folder, "wave", "bow")
    (folder / "wave.json").write_text(damage, encoding="utf-8")
    _, (notice,) = ask(model.url, folder, "bow", "wave")
    assert "wave.json" in notice
    assert model.asked == ["wave", "bow", "wave"]
    assert set(read_descriptions(folder)) == {"wave", "bow"}


def test_texts_of_two_models_or_prompts_are_not_mixed(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    with pytest.raises(DescriptionError, match=r"'tiny'.*'other'"):
        ask(model.url, folder, "bow", name="other")
    origin = folder / ORIGIN
    origin.write_text(origin.read_text(encoding="utf-8").replace(prompt_version(), "an-older-one"), encoding="utf-8")
    with pytest.raises(DescriptionError, match="an-older-one"):
        ask(model.url, folder, "bow")
    origin.write_text("{", encoding="utf-8")
    with pytest.raises(DescriptionError, match=f"{ORIGIN} is damaged"):
        ask(model.url, folder, "bow")
    origin.unlink()
    with pytest.raises(DescriptionError, match=ORIGIN):
        ask(model.url, folder, "bow")
    assert model.asked == ["wave"]


def test_texts_of_two_layouts_are_not_mixed(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    with pytest.raises(DescriptionError, match=r"kinect25.*coco17"):
        ask(model.url, folder, "wave", layout="coco17")


def test_another_server_of_the_same_model_is_added_to_the_origin(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    ask(model.url.replace("127.0.0.1", "localhost"), folder, "bow")
    assert read_origin(folder).server == "127.0.0.1, localhost"


def test_actions_that_would_share_a_file_are_refused(model: Model, folder: Path) -> None:
    with pytest.raises(DescriptionError, match=r"sit_down\.json.*'sit-down'.*'Sit down'"):
        ask(model.url, folder, "Sit down", "wave", "sit-down")
    assert not model.requests
    ask(model.url, folder, "Sit down")
    with pytest.raises(DescriptionError, match=r"'sit-down'.*'Sit down'"):
        ask(model.url, folder, "sit-down")
    with pytest.raises(DescriptionError, match=r"'sit-down'.*'Sit down'"):
        read_descriptions(folder, ["sit-down"])
    assert set(read_descriptions(folder)) == {"Sit down"}


def test_names_of_any_script_have_files_of_their_own(model: Model, folder: Path) -> None:
    ask(model.url, folder, "挥手", "跑步", "mâcher")
    assert set(read_descriptions(folder, ["挥手", "mâcher"])) == {"挥手", "mâcher"}
    assert (folder / "跑步.json").is_file()


@pytest.mark.parametrize("action", ["", " ", "../..", "wave\n", "w" * 101, "wave\udcff", "挥" * 90])
def test_a_name_that_no_file_can_have_is_refused(model: Model, folder: Path, action: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        ask(model.url, folder, action)
    assert refused.value.code == "bad_name"
    assert not model.requests


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DescriptionError, match="cannot be written"):
        ask(model.url, tmp_path / "file" / "tiny", "wave")
    assert not model.requests


def test_actions_come_from_an_archive_and_a_list_too(model: Model, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "own.npz", frames=np.ones((2, 25, 3), np.float32), offsets=np.array([0, 1, 2]),
        label=np.array([0, 1]), class_names=np.array(["wave", "bow"]), joint_names=np.array(KINECT25_JOINTS), fps=30.0,
    )  # fmt: skip
    (tmp_path / "list.txt").write_text("clap\n\n  jump \nbow\n", encoding="utf-8")
    files = [arg for name in ("own.npz", "list.txt") for arg in ("--actions-of", tmp_path / name)]
    finish(describe(model.url, "sit", *files, "--out", tmp_path))
    assert model.asked == ["sit", "bow", "wave", "clap", "jump"]
    err = finish(describe(model.url, "--out", tmp_path), code=2)
    assert "no action is named" in err
    err = finish(describe(model.url, "--actions-of", tmp_path / "none.txt", "--out", tmp_path), code=2)
    assert "none.txt" in err


# Reading


def test_missing_actions_are_listed_with_the_command_that_makes_them(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    with pytest.raises(DescriptionError, match="2 of 3 actions: sit down, clap") as refused:
        read_descriptions(folder, ["sit down", "wave", "clap"])
    command = f"crossglg-edge describe 'sit down' clap --llm URL --model tiny --out {folder.parent}"
    assert command in refused.value.hint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda file: file["joints"].pop("Head"), "joint Head is missing"),
        (lambda file: file["joints"].update(Tail="The tail wags along."), "joint Tail"),
        (lambda file: file.update({"global": ""}), "0 words"),
        (lambda file: file.update(layout="squid8"), "'squid8'"),
        (lambda file: file.update(action="bow"), "'bow'"),
        (lambda file: file.update(note="?"), "note"),
    ],
)
def test_a_broken_file_is_named_with_its_fault(
    model: Model, folder: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    ask(model.url, folder, "wave")
    path = folder / "wave.json"
    file = json.loads(path.read_bytes())
    change(file)
    path.write_text(json.dumps(file), encoding="utf-8")
    with pytest.raises(DescriptionError, match=complaint) as refused:
        read_descriptions(folder)
    assert str(path) in refused.value.message


def test_a_half_written_file_is_named(model: Model, folder: Path) -> None:
    ask(model.url, folder, "wave")
    path = folder / "wave.json"
    for half in (path.read_bytes()[:200], b"\xff\xfe\x00", b"[" * 100_000):
        path.write_bytes(half)
        with pytest.raises(DescriptionError, match=re.escape(str(path))):
            read_descriptions(folder, ["wave"])


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="holds no description"):
        read_descriptions(tmp_path)
    with pytest.raises(CrossGLGError, match="claude") as refused:
        read_descriptions("gpt-17")
    assert refused.value.code == "missing"


# The shipped texts


def test_the_shipped_texts_describe_every_open_action() -> None:
    if not PROTOCOL.is_file():
        pytest.skip("no open protocol beside the project")
    protocol = json.loads(PROTOCOL.read_bytes())
    actions = [*protocol["novel"], *protocol["base_order"]]
    assert len(actions) == 110
    assert list(read_descriptions("claude", actions)) == actions


def test_the_shipped_texts_describe_every_action_of_the_kinetics_protocol() -> None:
    (protocol,) = kinetics_protocols().values()
    actions = [*protocol["novel"], *protocol["base_order"]]
    described = read_descriptions("claude-kinetics", actions)
    assert len(described) == len(read_descriptions("claude-kinetics")) == 60
    for text in described.values():
        assert text.layout == "openpose18"
        assert 25 <= len(text.global_text.split()) <= 60
        assert all(6 <= len(sentence.split()) <= 22 for sentence in text.joints)
        for joint, sentence in zip(LAYOUTS["openpose18"].joints, text.joints, strict=True):
            assert sentence.startswith(f"The {spoken_joint(joint)}")


def test_the_contrastive_texts_describe_the_open_actions_by_their_look_alikes() -> None:
    described = read_descriptions("claude-contrastive")
    assert len(described) == 110
    assert set(described) < set(read_descriptions("claude"))
    for text in described.values():
        assert text.layout == "kinect25"
        assert 25 <= len(text.global_text.split()) <= 60
        assert text.global_text.startswith("Unlike ")
        assert all(6 <= len(sentence.split()) <= 22 for sentence in text.joints)


def test_shipped_texts_are_those_that_describe_the_actions() -> None:
    assert chosen_texts(ANY_SHIPPED, ["salsa dancing", "sailing"]) == "claude-kinetics"
    assert chosen_texts(ANY_SHIPPED, ["drink", "walk"]) == "claude"
    assert chosen_texts(ANY_SHIPPED, ACTIONS) == "claude"
    assert chosen_texts(ANY_SHIPPED, ["lunge"]) == "claude", "both have it"
    assert chosen_texts(ANY_SHIPPED, ["no such action"]) == "claude"
    assert chosen_texts("mine", ["salsa dancing"]) == "mine"


def test_the_shipped_texts_describe_every_action_of_ntu() -> None:
    for protocol in ntu_protocols().values():
        actions = [*protocol["novel"], *protocol["base_order"]]
        assert list(read_descriptions("claude", actions)) == actions
    assert len(read_descriptions("claude", ACTIONS)) == 120


def test_the_shipped_texts_keep_to_the_present_prompts() -> None:
    described = read_descriptions("claude")
    # 110 open actions and 120 of NTU RGB+D, of which two have the same name.
    assert len(described) == 228
    for text in described.values():
        assert text.layout == "kinect25"
        assert 25 <= len(text.global_text.split()) <= 60
        assert all(6 <= len(sentence.split()) <= 22 for sentence in text.joints)


@pytest.mark.parametrize("llm", available_llms())
def test_no_two_joints_and_no_two_actions_share_a_shipped_sentence(llm: str) -> None:
    assert repeated_sentences(read_descriptions(llm).values()) == []


def test_the_shipped_texts_say_where_they_come_from() -> None:
    for llm in available_llms():
        origin = read_origin(SHIPPED / llm)
        style: Style = "contrastive" if llm.endswith("-contrastive") else "plain"
        assert (origin.llm, origin.prompt) == (llm, prompt_version(style))
        assert origin.model
        assert origin.how
