"""Body parts in a sentence: its noun phrases -> the parts that they name -> their joints (CrossGLG, section 3.4).

spaCy in the place of the paper's CoreNLP: with its trained parser where `en_core_web_sm` is installed, else with its
tokenizer and a noun-phrase grammar around the words for body parts, because none of its models is on PyPI.

Shapes: V joints of a layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.errors import TextToolError
from streams.layouts import KINECT25_JOINTS, layout_by_name

if TYPE_CHECKING:
    from spacy.matcher import Matcher
    from spacy.tokens import Doc, Span, Token
    from spacy.vocab import Vocab

_TRAINED = "en_core_web_sm"

_ARM, _LEG, _CHEST = ("Shoulder*", "Elbow*", "Wrist*"), ("Hip*", "Knee*", "Ankle*"), ("SpineMid", "SpineShoulder")
_HAND, _TORSO, _PELVIS = ("Wrist*", "Hand*", "HandTip*", "Thumb*"), (*_CHEST, "SpineBase"), ("SpineBase", "Hip*")

# A part has the joints at its ends and between them, as the paper's arm; * stands for Left and Right. "body" alone
# names the person ("in front of the body", "the body rises") and no part.
_JOINTS_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("whole body", "entire body", "full body"), KINECT25_JOINTS),
    "upper body": (*_CHEST, "Neck", "Head", *_ARM),
    "lower body": (*_PELVIS, "Knee*", "Ankle*", "Foot*"),
    "limb": (*_ARM, *_LEG),
    **dict.fromkeys(("arm", "upper limb"), _ARM),
    **dict.fromkeys(("upper arm", "biceps", "triceps"), ("Shoulder*", "Elbow*")),
    **dict.fromkeys(("forearm", "lower arm"), ("Elbow*", "Wrist*")),
    **dict.fromkeys(("shoulder", "armpit", "collarbone"), ("Shoulder*",)),
    "elbow": ("Elbow*",),
    "wrist": ("Wrist*",),
    "hand": _HAND,
    "fist": ("Hand*", "HandTip*", "Thumb*"),
    **dict.fromkeys(("palm", "knuckle"), ("Hand*",)),
    "finger": ("HandTip*", "Thumb*"),
    **dict.fromkeys(("index finger", "forefinger", "fingertip", "pinky"), ("HandTip*",)),
    "thumb": ("Thumb*",),
    **dict.fromkeys(("leg", "lower limb"), _LEG),
    **dict.fromkeys(("thigh", "upper leg"), ("Hip*", "Knee*")),
    "knee": ("Knee*",),
    **dict.fromkeys(("shin", "calf", "lower leg"), ("Knee*", "Ankle*")),
    **dict.fromkeys(("ankle", "heel"), ("Ankle*",)),
    "foot": ("Ankle*", "Foot*"),
    **dict.fromkeys(("toe", "sole"), ("Foot*",)),
    "hip": ("Hip*",),
    **dict.fromkeys(("pelvis", "buttock", "groin"), _PELVIS),
    **dict.fromkeys(("waist", "lower back"), ("SpineBase", "SpineMid")),
    **dict.fromkeys(("belly", "abdomen", "stomach", "rib", "ribcage", "midsection"), ("SpineMid",)),
    **dict.fromkeys(("chest", "breast", "breastbone", "sternum", "upper back"), _CHEST),
    **dict.fromkeys(("torso", "trunk", "spine", "back"), _TORSO),
    **dict.fromkeys(("neck", "throat", "nape"), ("Neck",)),
    **dict.fromkeys(
        ("head", "face", "forehead", "temple", "eye", "ear", "nose", "cheek", "mouth", "lip", "chin", "jaw"), ("Head",)
    ),
}
_HEADS = {part.split()[-1] for part in _JOINTS_OF}
_SINGULAR = {head + ending: head for head in _HEADS for ending in ("", "s")} | {"feet": "foot", "calves": "calf"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words("the a an this that these those each both either neither one two all every any another its his "
                      "her their your my our 's '")  # fmt: skip
_MODIFIER = (
    r"^(?:left|right|other|opposite|same|own|upper|lower|whole|entire|full|first|second|front|rear|back|near|far|inner|"
    r"outer|middle|index|ring|little|big|bent|straight|flat|open|loose|high|low|free|tight|upright|dominant|lead|soft|"
    r"stiff|still|(?!then$|when$|during$)\w+(?:ed|ing|ly|en))$"
)
_SIDES = _words("left right")
_THE = _words("the its his her their my your")
# Of these one side has several, so their plural can mean one side.
_SEVERAL = _words("finger fingertip knuckle toe")
_JOINERS = _words("and or then , ; : ( plus &")
_PREPOSITIONS = _words("with of by on in at from over under above below between behind beside around across near")

# These are verbs as well: without an article or adjective they are nouns only where a noun can start and where no
# object or direction follows, and the last four never.
_ALSO_VERBS = _words(
    "hand hands head heads shoulder shoulders elbow elbows eye eyes thumb thumbs back backs face faces"
)
_NEVER_BARE = _words("back backs face faces")
_AFTER_VERBS = _DETERMINERS | _words("to toward towards away over out off through for forward forwards him it them us "
                                     "you me someone something")  # fmt: skip

# What a part can qualify without being meant: "chest height", "a foot pedal".
_NOT_A_PART = _words("height level length width line range rest chair band bag rail pedal pad pocket door seat phone "
                     "luggage mask glasses")  # fmt: skip
# Whose parts are meant; a partner's, an opponent's or a chair's are not.
_PERSONS = _words("person performer player signer subject actor dancer man woman user someone body")
_ANOTHER = _words("other another second")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyJoints:
    """Say which joints a text names, and by which noun phrases and parts ("right hand"; unsided: both sides)."""

    nouns: tuple[str, ...]
    parts: tuple[str, ...]
    joints: tuple[str, ...]


def key_joints(text: str, layout: str = "kinect25", *, read: Callable[[str], Doc] | None = None) -> KeyJoints:
    """Return the joints of the body parts that an English text names; none is an answer too.

    `read`: makes a spaCy Doc of the text; default: the user's trained model, else a tokenizer.
    Raises TextToolError where spaCy is missing.
    """
    phrases = _noun_phrases((read or english()[0])(text))
    joints: set[str] = set()
    parts = list(dict.fromkeys(_parts(phrases)))
    for side, part in parts:
        for name in [side.title()] if side else ["Left", "Right"]:
            joints |= {joint.replace("*", name) for joint in _JOINTS_OF[part]}
    native = layout_by_name(layout)
    # A native joint is meant by more than a quarter of what it stands for. So a chest has shoulders and no hips where
    # the spine is made of all four.
    is_named = np.array([joint in joints for joint in KINECT25_JOINTS])
    is_key_V = is_named @ native.kinect25_weights > native.kinect25_weights.sum(axis=0) / 4
    return KeyJoints(
        nouns=tuple(dict.fromkeys(phrase.text for phrase, _ in phrases)),
        parts=tuple(f"{side} {part}".strip() for side, part in parts),
        joints=tuple(joint for joint, is_key in zip(native.joints, is_key_V, strict=True) if is_key),
    )


@cache
def english() -> tuple[Callable[[str], Doc], str]:
    """Return what reads English here, and its name. Raises TextToolError."""
    try:
        import spacy
    except ImportError as missing:
        raise TextToolError(
            "key joints need spaCy, which is not installed", hint="Install it: pip install 'crossglg-edge[text]'"
        ) from missing
    if spacy.util.is_package(_TRAINED):
        model = spacy.load(_TRAINED)
        return model, f"{_TRAINED} {model.meta['version']}"
    return spacy.blank("en"), f"noun-phrase grammar 1, spaCy {version('spacy')}"


def _noun_phrases(doc: Doc) -> list[tuple[Span, Token | None]]:
    """Return the noun phrases in order, each with its last word for a body part."""
    if doc.has_annotation("DEP"):
        return [(chunk, _body_word(chunk)) for chunk in doc.noun_chunks]
    spans = sorted(_grammar(doc.vocab)(doc, as_spans=True), key=lambda span: span.start)
    return [(span, _body_word(span)) for span in spans if _is_noun(span)]


@cache
def _grammar(vocab: Vocab) -> Matcher:
    from spacy.matcher import Matcher

    determiner, part = {"LOWER": {"IN": [*_DETERMINERS]}, "OP": "*"}, {"LOWER": {"IN": [*_SINGULAR]}}
    modifiers, side = {"LOWER": {"REGEX": _MODIFIER}, "OP": "*"}, {"LOWER": {"IN": [*_SIDES]}}
    either = {"LOWER": {"IN": ["and", "or"]}}
    matcher = Matcher(vocab)
    patterns: list[list[dict[str, Any]]] = [
        [determiner, modifiers, part],
        [determiner, side, either, determiner, side, modifiers, part],
    ]
    matcher.add("noun phrase", patterns, greedy="LONGEST")
    return matcher


def _is_noun(span: Span) -> bool:
    word = span[-1].lower_
    openers = [token.lower_ for token in span[:-1] if not token.lower_.endswith("ly")]
    if word in _NEVER_BARE:
        return any(opener in _DETERMINERS for opener in openers) or openers[-1:] in (["lower"], ["upper"])
    if openers or word not in _ALSO_VERBS:
        return True
    before, after = _neighbors(span.doc, span.start, span.end)
    # "A steady hand": no adjective that the grammar knows, and the person is no adjective.
    opens = before not in _PERSONS and _neighbors(span.doc, span.start - 1, span.end)[0] in _DETERMINERS
    return (opens or before in _JOINERS | _PREPOSITIONS | {"", "."}) and after not in _AFTER_VERBS


def _body_word(phrase: Span) -> Token | None:
    return next((token for token in reversed([*phrase]) if token.lower_ in _SINGULAR), None)


def _parts(phrases: list[tuple[Span, Token | None]]) -> Iterator[tuple[str, str]]:
    """Yield (side, part) for each phrase about a part of the person who acts; side "" where both are meant."""
    following = {phrase.start: phrase for phrase, word in phrases if word is not None}
    last_end, last_side = 0, ""
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for phrase, word in phrases:
        part = _part(phrase, word) if word is not None and _is_meant(phrase, word, following) else None
        if word is None or part is None:
            continue
        first = phrase[0].lower_
        of = following.get(word.i + 2) if _neighbors(word.doc, word.i, word.i + 1)[1] == "of" else None
        stated = _sides(phrase) or _sides(of)
        seen_of_limb = seen[any(joint in _LEG or joint == "Foot*" for joint in _JOINTS_OF[part])]
        side = "".join(stated) if len(stated) == 1 else ""
        between = {token.lower_ for token in word.doc[last_end : phrase.start]}
        if not stated and between <= _JOINERS and first not in _DETERMINERS:
            side = last_side  # "the right shoulder, elbow and wrist"
        elif not stated and len(seen_of_limb) == 1 and first in _THE and (word.lower_ in _HEADS or part in _SEVERAL):
            (side,) = seen_of_limb  # "the right arm rises and the fingers close"
        last_end, last_side = phrase.end, side
        if any("*" in joint for joint in _JOINTS_OF[part]):
            seen_of_limb.add(side)
            yield side, part
        else:
            yield "", part


def _part(phrase: Span, word: Token) -> str | None:
    """Return the part's name: the longest that is known, None for a body as such."""
    singular = _SINGULAR[word.lower_]
    names = (*(f"{token.lower_} {singular}" for token in phrase), singular)
    return next((name for name in names if name in _JOINTS_OF), None)


def _sides(phrase: Span | None) -> frozenset[str]:
    return _SIDES.intersection(token.lower_ for token in phrase or ())


def _is_meant(phrase: Span, word: Token, following: dict[int, Span]) -> bool:
    """Tell a part of the person who acts from a measure, a thing's part, another person's, and an idiom."""
    doc = word.doc
    before, after = _neighbors(doc, phrase.start, word.i + 1)
    second_after = _neighbors(doc, word.i, word.i + 2)[1]
    if "-" in (after, _neighbors(doc, word.i, word.i)[0]) or after in _NOT_A_PART | {"'s", "'"}:
        return False
    if (word.lower_, after, second_after) == ("back", "and", "forth"):
        return False
    if (before, phrase.text.lower(), after) == ("on", "the other hand", ","):
        return False
    possessive = next((token for token in phrase if token.lower_ in ("'s", "'")), None)
    if possessive is not None and possessive.i > 0 and not _is_person(doc[: possessive.i]):
        return False
    if after != "of":
        return True
    if word.i + 2 in following:
        return word.lower_ != "back"
    rest = [token for token in doc[word.i + 2 : word.i + 6] if token.lower_ not in _DETERMINERS - _ANOTHER]
    return any(token.lower_ in _PERSONS and _is_person(doc[: token.i + 1]) for token in rest[:2])


def _is_person(words: Span) -> bool:
    """Tell whether these words end in the person who acts, or in a part of the body."""
    is_another = len(words) > 1 and words[-2].lower_ in _ANOTHER
    return words[-1].lower_ in _SINGULAR or (words[-1].lower_ in _PERSONS and not is_another)


def _neighbors(doc: Doc, start: int, end: int) -> tuple[str, str]:
    """Return the words before and after, in lower case, "" where there is none."""
    return doc[start - 1].lower_ if start > 0 else "", doc[end].lower_ if end < len(doc) else ""
