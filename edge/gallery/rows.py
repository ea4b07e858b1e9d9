"""Rows of the gallery's file, each held against its checksum: what is damaged is told row by row, and the rest serves.

Shapes: L frames of an example, D embedding size.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np

from edge.gallery.examples import Negative, validate_movement
from edge.gallery.schema import CHECKED, checksum
from streams.arrays import Array
from streams.errors import GalleryError
from streams.movement import Movement


class DamagedRowError(Exception):
    """Say what is wrong with one row."""


def read_row(db: sqlite3.Connection, table: str, where: str, *values: object) -> tuple[Any, ...]:
    """Return a row of one of CHECKED. Raises DamagedRowError where there is none, or it is not what was stored."""
    try:
        row = db.execute(f"SELECT {CHECKED[table]}, sha256 FROM {table} WHERE {where}", values).fetchone()
    except (sqlite3.DatabaseError, UnicodeError) as error:  # a page of it, or its text
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise
        raise DamagedRowError(str(error)) from error
    if row is None:
        raise DamagedRowError("it is missing")
    if row[-1] != checksum(*row[:-1]):
        raise DamagedRowError("it is not what was stored: its checksum is another one")
    return tuple(row[:-1])


def read_recorded(db: sqlite3.Connection, id: str) -> tuple[Negative, str | None]:
    """Return an example without its label, and its words. Raises DamagedRowError."""
    _, origin, created, times, joints, words = read_row(db, "examples", "id = ?", id)
    try:
        movement = Movement(
            timestamps_s=np.frombuffer(times, "<f8"), joints_m=np.frombuffer(joints, "<f4").reshape(-1, 25, 3)
        )
        return Negative(id=id, movement=validate_movement(movement), origin=origin, created=created), words
    except (TypeError, ValueError, GalleryError) as error:
        raise DamagedRowError(str(error)) from error


def read_embedding(db: sqlite3.Connection, id: str, model: str, size: int | None) -> Array:
    """Return an example's embedding by a model, shape (D,), float32; (0,) where there is none that can be used.

    `size`: D, None for any.
    """
    try:
        *_, content = read_row(db, "embeddings", "example = ? AND model = ?", id, model)
        embedding = np.frombuffer(content, "<f4")
    except (DamagedRowError, TypeError, ValueError):
        return np.zeros(0, np.float32)
    is_sound = np.isfinite(embedding).all() and len(embedding) == (size or len(embedding))
    return embedding if is_sound else np.zeros(0, np.float32)
