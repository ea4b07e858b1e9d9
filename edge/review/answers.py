"""An answer to a clip changes the gallery: an example where it was right, a counter-example where it was wrong.

The gallery alone knows what was answered: an example's origin names the clip. So an answer is one change of the
gallery, whole or not at all, and is undone as one; the ring is only read.
"""

from __future__ import annotations

from edge.config import Config
from edge.enroll import commit_draft, draft_example, example_from_capture
from edge.gallery import Gallery, find_spelling
from edge.model import BundleInfo
from edge.protocol import ReviewAnswered, ReviewClip, ReviewUndone, Verdict
from streams.errors import ReviewError
from streams.movement import Movement

_ORIGIN = "review:"
LAST = "last"


def origin_of(clip_id: str) -> str:
    """Return the origin of what an answer to a clip has stored."""
    return f"{_ORIGIN}{clip_id}"


def answers_to(gallery: Gallery) -> dict[str, str]:
    """Return what was answered, in words, by the clip's id: "is LABEL" or "is not LABEL"."""
    said = {"is": gallery.prototypes, "is not": gallery.counters}
    return {
        prototype.origin.removeprefix(_ORIGIN): f"{word} {prototype.label}"
        for word, prototypes in said.items()
        for prototype in prototypes
        if prototype.origin.startswith(_ORIGIN)
    }


def answer_clip(
    gallery: Gallery,
    info: BundleInfo,
    config: Config,
    clip: ReviewClip,
    movement: Movement,
    verdict: Verdict,
    *,
    created: str,
    label: str | None = None,
) -> ReviewAnswered:
    """Make an example of a clip's label, or of `label` where it is that, or a counter-example where it is wrong.

    Raises ReviewError: "already_answered", "bad_args"; GalleryError("unknown_label"); EnrollError for what makes no
    example.
    """
    if (label is None) == (verdict == "is"):
        raise ReviewError("expected a label with `is`, and only with `is`", code="bad_args")
    told = answers_to(gallery).get(clip.id)
    if told is not None:
        raise ReviewError(
            f"clip {clip.id} was answered already: it {told}",
            code="already_answered",
            hint=f"`crossglg-edge review undo {clip.id}` takes the answer back.",
        )
    spelling = _enrolled(gallery, clip.label if label is None else label)
    origin = origin_of(clip.id)
    notes: tuple[str, ...] = ()
    if verdict == "wrong":
        stored = gallery.add_counter(spelling, movement, origin=origin, created=created).id
    else:
        example = example_from_capture(movement, config, trim=False)
        draft = draft_example(gallery, info, spelling, example, origin=origin, created=created, mode="add")
        done = commit_draft(gallery, info, draft, created=created, force=True)
        stored, notes = done.id, done.notes
    return ReviewAnswered(
        id=clip.id,
        answer=answers_to(gallery)[clip.id],
        example=stored,
        notes=notes,
        gallery_revision=gallery.revision,
    )


def undo_answer(gallery: Gallery, clip_id: str, *, created: str) -> ReviewUndone:
    """Take back the answer to the clip whose id begins so, or the last one; the clip need not be there any more.

    Raises ReviewError("not_answered").
    """
    held = [p for p in (*gallery.prototypes, *gallery.counters) if p.origin.startswith(_ORIGIN)]
    if clip_id == LAST:
        found = sorted(held, key=lambda prototype: prototype.created)[-1:]
    else:
        found = [p for p in held if clip_id and p.origin.startswith(origin_of(clip_id))]
    if len(found) != 1:
        raise ReviewError(
            f"{len(found)} answers are to a clip whose id begins with {clip_id!r}, expected one"
            if clip_id != LAST
            else "there is no answer to take back",
            code="not_answered",
            hint="`crossglg-edge review list` shows what was answered.",
        )
    (answered,) = found
    answer = answers_to(gallery)[answered.origin.removeprefix(_ORIGIN)]
    gallery.remove_example(answered.id, created=created)
    return ReviewUndone(id=answered.origin.removeprefix(_ORIGIN), answer=answer, gallery_revision=gallery.revision)


def _enrolled(gallery: Gallery, label: str) -> str:
    spelling = find_spelling(label, gallery.labels())
    if not spelling:
        known = ", ".join(map(repr, gallery.labels())) or "none"
        raise ReviewError(
            f"no label {label!r} is enrolled: expected one of {known}",
            code="unknown_label",
            hint="If it was renamed or is another action, say which: `crossglg-edge review is LABEL ID`.",
        )
    return spelling
