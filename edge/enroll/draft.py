"""An example that is about to be stored: what a person should know about it before it is, and its storing."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from edge.enroll.capture import TrimmedExample
from edge.gallery import Example, Gallery, Prototype, label_key
from edge.match import Prototypes, is_same_action, likenesses, too_similar_distance
from edge.model import BundleInfo
from edge.motion import on_side
from edge.protocol import Mode, Preview, Side, StoredExample
from streams.errors import EnrollError


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Hold an example that is not stored yet: as one prototype, or with its mirror image as two.

    `preview`: what a person should know before it is stored.
    """

    prototypes: list[Prototype]
    mode: Mode
    preview: Preview


def draft_example(
    gallery: Gallery,
    info: BundleInfo,
    label: str,
    example: TrimmedExample,
    *,
    origin: str,
    created: str,
    mode: Mode = "new",
    side: Side | None = None,
    words: str | None = "",
) -> Draft:
    """Embed an example and compare it with the gallery. `words` as in Example. Raises GalleryError."""
    label = gallery.check_label(label, mode=mode)
    shown, note = on_side(example.movement, side)
    drafts = gallery.embed(
        [
            Example(
                label=label,
                movement=movement,
                origin=origin if movement is example.movement else f"{origin}, mirrored",
                created=created,
                words=words,
            )
            for movement in shown
        ]
    )
    compared = Prototypes([prototype.embedding for prototype in gallery.prototypes], info)
    embeddings = np.array([draft.embedding for draft in drafts])
    found = likenesses(embeddings, gallery.prototypes, compared, info.score_curve)
    others = [other for other in found if label_key(other.label) != label_key(label)]
    own = [other for other in found if label_key(other.label) == label_key(label)]
    lines = [*example.notes, note] if note else [*example.notes]
    if mode == "add" and label in [prototype.label for prototype in gallery.prototypes]:
        distance = own[0].distance if own else np.inf
        if not is_same_action(distance, info.score_curve):
            lines.append(
                f"unlike the other examples of {label!r}: {distance:.2f} from the nearest, where the same action "
                f"is usually nearer than {info.score_curve.midpoint:.2f}"
            )
    similar = others[0] if others and others[0].distance < too_similar_distance(info.score_curve) else None
    preview = example.preview(label, similar=similar, words=gallery.words_of(drafts[0]), notes=lines)
    return Draft(prototypes=drafts, mode=mode, preview=preview)


def commit_draft(gallery: Gallery, info: BundleInfo, draft: Draft, *, created: str, force: bool) -> StoredExample:
    """Store a draft; return its preview and what was stored.

    Raises EnrollError("too_similar") for a new label that is another's action, unless `force`; GalleryError.
    """
    similar = draft.preview.similar
    if similar and draft.mode != "add" and not force:
        raise EnrollError(
            f"it is too like {similar.label!r}: {similar.distance:.2f} from it, and what is nearer than "
            f"{too_similar_distance(info.score_curve):.2f} is taken for the same action",
            code="too_similar",
            hint="Show another movement, or add it to that label (--add); --force (force: true) stores it anyway.",
        )
    stored = gallery.add_all(draft.prototypes, created=created, mode=draft.mode)
    preview = msgspec.structs.replace(draft.preview, label=stored[0].label)
    return StoredExample(
        id=stored[0].id,
        stored=len(stored),
        gallery_revision=gallery.revision,
        **msgspec.structs.asdict(preview),
    )
