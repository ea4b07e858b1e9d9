"""Key joints: golden sentences, homographs, sides, a trained parser, and the file that keeps them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from streams.errors import DescriptionError, TextToolError
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from training.texts import body_parts
from training.texts.body_parts import KeyJoints, key_joints
from training.texts.describe import KEY_JOINTS, ORIGIN, SHIPPED, available_llms, read_descriptions
from training.texts.key_joints import read_key_joints, write_key_joints

spacy = pytest.importorskip("spacy", reason="needs the extra `text`")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a folder with three shipped descriptions."""
    for name in (ORIGIN, "drink.json", "neck_relaxation.json", "grab_high_with_right_hand.json"):
        shutil.copy(SHIPPED / "claude" / name, tmp_path)
    return tmp_path


def _rewrite(path: Path, action: str, text: str) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"action": action, "global": text}))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        # The examples of the paper's appendix.
        (
            "the hands are involved in picking up, sorting, and organizing the bills or coins, while the eyes focus on "
            "visually inspecting and verifying the amount, and the head is engaged in mental calculations",
            "hand, eye, head",
        ),
        ("Both arms swing from the shoulders.", "arm, shoulder"),
        ("The forearm tilts and its slightly bent wrist flicks.", "forearm, wrist"),
        ("The torso twists at the waist while the hips stay level.", "torso, waist, hip"),
        ("The calves tense, the feet rise and the toes leave the floor last.", "calf, foot, toe"),
        ("A quick knee bend lowers the pelvis.", "knee, pelvis"),
        ("The upper body leans and the lower back arches.", "upper body, lower back"),
        ("Hands clap, elbows bent, head up, with arms raised.", "hand, elbow, head, arm"),
        ("The index finger and both thumbs press.", "index finger, thumb"),
        ("The palms of the hands meet at the side of the head.", "palm, hand, head"),
        ("The back of the hand touches the chin.", "hand, chin"),
        ("The signer's hand lands on the signer's own breastbone.", "hand, breastbone"),
        ("A steady hand and strong arms.", "hand, arm"),
        ("The ball rolls away.", ""),
    ],
)
def test_a_sentence_names_its_body_parts(text: str, parts: str) -> None:
    assert ", ".join(key_joints(text).parts) == parts


@pytest.mark.parametrize(
    "text",
    [
        "It swings back and forth, leans slightly back and steps back.",
        "On the other hand, the chair stays where it is.",
        "The person turns to face the camera and heads toward the door.",
        "The person hands over the parcel, shoulders a bag and elbows someone.",
        "The person hands the parcel to the driver, backs away and faces the wall.",
        "It turns like the hands of a clock.",
        "He sits on the back of the chair, by the arm of the sofa, at the head of the line.",
        "The ball is raised to chest height, held at arm's length, shoulder-high, and thrown at eye level.",
        "The opponent's shoulder and another person's back are touched.",
        "The chair's arm is touched.",
        "The ball moves in front of the body, then the body sinks.",
    ],
)
def test_words_that_only_look_like_parts_of_the_person_name_no_joint(text: str) -> None:
    assert key_joints(text).joints == ()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("The right hand rises.", "right hand"),
        ("One hand rises.", "hand"),
        ("Both elbows bend.", "elbow"),
        ("The left arm and the right leg extend.", "left arm, right leg"),
        ("The left and right hands meet.", "hand"),
        ("The right shoulder, elbow and wrist turn, then the hips.", "right shoulder, right elbow, right wrist, hip"),
        ("The fingers of the left hand curl.", "left finger, left hand"),
        ("The right hand lifts the cup, the elbow bends, the fingers close.", "right hand, right elbow, right finger"),
        ("The right hand lifts the cup and both elbows bend.", "right hand, elbow"),
        ("The left leg kicks while the arm swings.", "left leg, arm"),
        ("One arm stretches to the right, and the left foot follows.", "arm, left foot"),
    ],
)
def test_a_side_holds_for_the_parts_that_it_is_said_of(text: str, parts: str) -> None:
    assert ", ".join(key_joints(text).parts) == parts


def test_parts_become_the_joints_at_their_ends_and_between() -> None:
    assert key_joints("The right arm rises.").joints == ("ShoulderRight", "ElbowRight", "WristRight")
    assert key_joints("The eyes close.").joints == ("Head",)
    assert key_joints("The left hand opens.").joints == ("WristLeft", "HandLeft", "HandTipLeft", "ThumbLeft")
    assert key_joints("The whole body shakes.").joints == KINECT25_JOINTS
    assert len(key_joints("The knees bend.").joints) == 2


def test_other_layouts_get_the_joints_that_stand_for_the_same_parts() -> None:
    text = "The right hand and the right foot rise, and the head turns."
    assert key_joints(text, "coco17").joints == (
        "nose", "left_ear", "right_ear", "right_wrist", "right_ankle",
    )  # fmt: skip
    assert "HandRight" in key_joints(text, "k4a32").joints
    assert {name for name in LAYOUTS if not key_joints(text, name).joints} == set()


def test_a_layout_without_a_chest_gets_its_shoulders_and_no_hips() -> None:
    assert key_joints("The chest sinks.", "openpose18").joints == ("RShoulder", "LShoulder")
    assert set(key_joints("The trunk bends.", "openpose18").joints) == {"RShoulder", "LShoulder", "RHip", "LHip"}
    assert key_joints("The neck bends.", "kinect20").joints == ("ShoulderCenter", "Head")


def test_a_trained_parser_decides_what_a_noun_phrase_is() -> None:
    def read(text: str) -> object:
        # As en_core_web_sm parses it: "hands" is the verb, "the head nod" and "a chair" are noun phrases.
        words = ["The", "person", "hands", "the", "right", "wrist", "of", "a", "chair", "a", "head", "nod"]
        heads = [1, 2, 2, 5, 5, 2, 5, 8, 6, 11, 11, 2]
        deps = ["det", "nsubj", "ROOT", "det", "amod", "dobj", "prep", "det", "pobj", "det", "compound", "attr"]
        pos = ["DET", "NOUN", "VERB", "DET", "ADJ", "NOUN", "ADP", "DET", "NOUN", "DET", "NOUN", "NOUN"]
        return spacy.tokens.Doc(spacy.blank("en").vocab, words=words, heads=heads, deps=deps, pos=pos)

    found = key_joints("", read=read)  # type: ignore[arg-type]
    assert found == KeyJoints(
        nouns=("The person", "the right wrist", "a chair", "a head nod"), parts=("head",), joints=("Head",)
    )


def test_k_is_stored_with_the_words_that_it_came_from(texts: Path) -> None:
    found = write_key_joints(texts)
    assert found["neck relaxation"].parts == ("head", "neck")
    stored = json.loads((texts / KEY_JOINTS).read_text())
    assert stored["extractor"].startswith("noun-phrase grammar") or stored["extractor"].startswith("en_core_web_sm")
    assert stored["actions"]["neck relaxation"]["joints"] == ["Neck", "Head"]
    assert stored["actions"]["neck relaxation"]["nouns"] == ["The head", "the neck"]
    actions = ["neck relaxation", "grab high with right hand"]
    K_AV = read_key_joints(texts, actions)
    assert K_AV.dtype == np.float32
    assert [[KINECT25_JOINTS[v] for v in np.flatnonzero(k)] for k in K_AV] == [
        ["Neck", "Head"],
        ["Head", "ShoulderRight", "ElbowRight", "WristRight", "HandRight", "HandTipRight", "ThumbRight"],
    ]
    assert set(read_descriptions(texts)) == set(found), "the stored K is not taken for a description"


def test_a_text_that_changed_makes_its_k_stale_and_a_new_one_is_missed(texts: Path) -> None:
    with pytest.raises(DescriptionError) as refused:
        read_key_joints(texts, ["drink"])
    assert refused.value.code == "missing"
    assert f"embed-texts {texts}" in refused.value.hint
    write_key_joints(texts)
    _rewrite(texts / "drink.json", "drink", "The left hand lifts a cup to the mouth and sinks again.")
    shutil.copy(SHIPPED / "claude" / "clap.json", texts)
    for action, code in (("drink", "stale"), ("clap", "missing")):
        with pytest.raises(DescriptionError, match=action) as refused:
            read_key_joints(texts, ["neck relaxation", action])
        assert refused.value.code == code
    assert read_key_joints(texts, ["neck relaxation"]).sum() == 2
    write_key_joints(texts)
    assert read_key_joints(texts, ["drink"])[0, KINECT25_JOINTS.index("HandLeft")] == 1


@pytest.mark.parametrize("content", [b"", b'{"extractor": "x", "layo', b"\xff\xfe", b"[" * 100_000, b'{"actions": {}}'])
def test_a_damaged_file_is_refused_with_the_command_that_renews_it(texts: Path, content: bytes) -> None:
    (texts / KEY_JOINTS).write_bytes(content)
    with pytest.raises(DescriptionError, match="cannot be read") as refused:
        read_key_joints(texts, ["drink"])
    assert "embed-texts" in refused.value.hint


def test_a_joint_that_the_layout_has_not_is_refused(texts: Path) -> None:
    write_key_joints(texts)
    path = texts / KEY_JOINTS
    path.write_text(path.read_text().replace('"Head"', '"Nose"'))
    with pytest.raises(DescriptionError, match="Nose"):
        read_key_joints(texts, ["drink"])


def test_a_folder_that_cannot_be_written_is_named(texts: Path) -> None:
    (texts / KEY_JOINTS).mkdir()
    with pytest.raises(DescriptionError, match="cannot be written"):
        write_key_joints(texts)
    assert [path.name for path in texts.glob(".*")] == []


def test_without_spacy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    body_parts.english.cache_clear()
    with pytest.raises(TextToolError) as missing:
        key_joints("The right hand rises.")
    assert "crossglg-edge[text]" in missing.value.hint


@pytest.mark.parametrize("llm", available_llms())
def test_the_shipped_k_belongs_to_the_shipped_texts(llm: str) -> None:
    descriptions = read_descriptions(llm)
    K_AV = read_key_joints(llm, [*descriptions])
    assert K_AV.shape == (len(descriptions), 25)
    assert K_AV.any(axis=1).all()
    # Nearly all texts choose: guidance to every joint is none.
    assert (K_AV.sum(axis=1) == 25).mean() < 0.05
    assert np.median(K_AV.sum(axis=1)) < 15
    stored = json.loads((SHIPPED / llm / KEY_JOINTS).read_text())
    assert set(stored["actions"]) == set(descriptions)
    if stored["extractor"] == body_parts.english()[1]:
        assert all(
            [*key_joints(text.global_text, text.layout).joints] == stored["actions"][action]["joints"]
            for action, text in descriptions.items()
        )


def test_texts_of_another_layout_tell_the_joints_of_kinect25_that_are_made_of_theirs() -> None:
    (hands_V,) = read_key_joints("claude-kinetics", ["washing hands"])
    named = {joint for joint, is_key in zip(KINECT25_JOINTS, hands_V, strict=True) if is_key}
    arm_ends = ("Elbow", "Wrist", "Hand", "HandTip", "Thumb")
    assert named == {f"{joint}{side}" for joint in arm_ends for side in ("Left", "Right")}
