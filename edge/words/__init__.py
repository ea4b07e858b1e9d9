"""What a label's words say about a movement: text in, a predicted embedding out; optional, and never on its own."""

from edge.words.setup import install
from edge.words.text_encoder import TextEncoder, default_folder, open_text_encoder
from edge.words.word_map import WordMap, WordsHeader, fit_predictor, read_word_map, write_word_map
from edge.words.words import Words, open_words

__all__ = [
    "TextEncoder",
    "WordMap",
    "Words",
    "WordsHeader",
    "default_folder",
    "fit_predictor",
    "install",
    "open_text_encoder",
    "open_words",
    "read_word_map",
    "write_word_map",
]
