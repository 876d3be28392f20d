"""The King James Bible as tokens: text from Debian's bible-kjv, a sentencepiece BPE, the last twentieth held out."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

VERSES = "gen1:1-rev22:21"  # all of it
HELD_OUT = 20  # the last 1 / HELD_OUT of the text


def prepare(directory, pieces):
    """The file of tokens in a directory, made if it is not there."""
    path = Path(directory) / f"kjv-{pieces}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            try:
                np.savez(file, **tokenize(read(), pieces))
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
                os.rename(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    return path


def read():
    """The text, one verse a line, each after its reference: `Ge1:1 In the beginning ...`."""
    try:
        printed = subprocess.run(["bible", "-f", VERSES], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    except FileNotFoundError:
        raise OSError("the program `bible` is missing: install Debian's bible-kjv") from None
    except subprocess.CalledProcessError as error:
        raise OSError(f"`bible -f {VERSES}` failed: {error.stderr.decode(errors='replace').strip()}") from None
    return printed.stdout.decode("latin-1")


def tokenize(text, pieces):
    import sentencepiece

    verses = text.splitlines()
    sizes = np.cumsum([len(verse) + 1 for verse in verses])
    first_held_out = int(np.searchsorted(sizes, sizes[-1] * (HELD_OUT - 1) / HELD_OUT))
    training, validation = verses[:first_held_out], verses[first_held_out:]

    with tempfile.TemporaryDirectory() as directory:
        model = os.path.join(directory, "bpe")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(training), model_prefix=model, model_type="bpe", vocab_size=pieces,
            character_coverage=1.0, byte_fallback=False, num_threads=1, minloglevel=2)
        processor = sentencepiece.SentencePieceProcessor(model_file=model + ".model")
        vocabulary = Path(model + ".model").read_bytes()

    def encode(lines):
        # The end of a verse is a token too.
        return np.concatenate([np.array(ids + [processor.eos_id()], dtype=np.uint16)
                               for ids in processor.encode(lines)])

    return {"training": encode(training), "validation": encode(validation),
            "vocabulary": np.frombuffer(vocabulary, dtype=np.uint8), "pieces": pieces}


class Text:
    def __init__(self, path):
        with np.load(path) as file:
            self.training, self.validation, self.pieces = file["training"], file["validation"], int(file["pieces"])

    def sample(self, seed, step, index, length):
        """`length` + 1 tokens for place `index` of a step's batch: the same whoever asks, and in any order."""
        numbers = np.random.Generator(np.random.Philox(key=seed, counter=[index, step, 0, 0]))
        start = int(numbers.integers(len(self.training) - length))
        return self.training[start:start + length + 1].astype(np.int64)

    def windows(self, length):
        """The held-out part as rows of `length` + 1 tokens; the last token of a row is the first of the next."""
        count = (len(self.validation) - 1) // length
        starts = np.arange(count) * length
        return self.validation[starts[:, None] + np.arange(length + 1)].astype(np.int64)

    def unigram_entropy(self):
        """Nats per token of the held-out part's own token frequencies: the least loss there without any context."""
        counts = np.bincount(self.validation)
        frequencies = counts[counts > 0] / len(self.validation)
        return float(-np.sum(frequencies * np.log(frequencies)))
