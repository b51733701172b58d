"""A corpus of 31 words, recipes that train on it in a second, and what a user might add of their own."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.text import load_corpus
from experiments.harness import figures
from experiments.harness.run import Run
from experiments.sigsoftmax.config import Settings
from experiments.sigsoftmax.models import BODIES, Dropouts, States
from experiments.sigsoftmax.recipes import RECIPES
from experiments.sigsoftmax.run import WordModel

FILES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
SHARED = {"data": "ptb", "embedding_size": 4, "epochs": 2, "finetune_epochs": 1, "batch_size": 8, "bptt": 6}
# The published optimisation, averages included, of a mixture; every dropout is on.
MIXTURE = dataclasses.replace(
    RECIPES["mos_ptb"], **SHARED, hidden_size=5, last_size=6, num_layers=2, num_experts=2, bptt_spread=1.0,
    bptt_excess=3, window_sizes=2, learning_rate=8.0, finetune_learning_rate=8.0, patience=1, test_batch_size=2,
    dropouts=Dropouts(*[0.3] * 6),
)  # fmt: skip
# Two with a body that is quick to compile and without dropout, for all tests that only need a run.
QUICK_PLAIN = dataclasses.replace(
    RECIPES["small"], **SHARED, body="memory", last_size=4, num_layers=1, dropouts=Dropouts(), optimizer="sgd",
    learning_rate=8.0, finetune_learning_rate=8.0,
)  # fmt: skip
QUICK = dataclasses.replace(
    MIXTURE, body="memory", num_layers=1, dropouts=Dropouts(), dynamic=QUICK_PLAIN.dynamic, test_batch_size=10
)

# Commands, from a directory that has the corpus.
OUT = ["--data-dir", "corpus", "--out"]
COMPARE = ["--data-dir", "corpus", "--networks", "softmax", "moss", "--rank.contexts", "150"]
TRAIN = ["train", "mos_small", *OUT, "net"]
EVALUATE = ["evaluate", "--run", "net", "--data-dir", "corpus", "--evaluations", "perplexity"]
GENERATE = ["generate", "--run", "net", "--data-dir", "corpus", "--prompt", "w1 w2", "--words", "5"]
QUICKLY = ["--body", "memory", "--epochs", "1", "--finetune-epochs", "0"]
# With a score of one's own by Adam: all tests that train so share the programs.
OWN_SCORE = ["--experts", "3", "--score", "tests.sigsoftmax.small:own_score", "--optimizer", "adam"]


def text(seed, lines):
    """Lines of words of which each is mostly followed by its successor."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 30, lines)
    words = (starts[:, None] + np.arange(7) + (rng.random((lines, 7)) < 0.2)) % 30
    return "".join(" ".join(f"w{word}" for word in line) + "\n" for line in words)


def write_corpus(directory):
    """The files of a corpus, in a new directory; two splits have as many windows, which spares compilations."""
    directory.mkdir()
    for seed, (name, lines) in enumerate(zip(FILES, (60, 24, 26), strict=True)):
        (directory / name).write_text(text(seed, lines))
    return directory


def use_small_recipes(monkeypatch, directory):
    """Let ``small`` and ``mos_small`` be small, and ``corpus`` lie in the working directory."""
    monkeypatch.chdir(directory)
    add_body(monkeypatch)
    monkeypatch.setitem(RECIPES, "small", QUICK_PLAIN)
    monkeypatch.setitem(RECIPES, "mos_small", QUICK)
    return write_corpus(directory / "corpus")


def draw_few_figures(monkeypatch, drawn=()):
    """Leave empty files for all figures but those below directories of these names, as drawing takes long."""
    write = figures._write_figure

    def written(path, figure):
        if path.parent.name in drawn:
            return write(path, figure)
        path.touch()

    monkeypatch.setattr(figures, "_write_figure", written)


def add_body(monkeypatch):
    """One entry of the table of bodies."""
    monkeypatch.setitem(BODIES, "memory", lambda recipe: Memory(recipe.last_size))


def run_of(corpus_directory, directory, *, checkpoint_every=None, **changes):
    """A run of the mixture with changes to its recipe."""
    settings = Settings(recipe=dataclasses.replace(MIXTURE, **changes))
    return Run(WordModel(settings, load_corpus("ptb", corpus_directory)), directory, checkpoint_every)


def assert_same_training(found, expected):
    """The same states of all phases, bit by bit, and the same losses after each epoch."""
    assert list(found.phases) == list(expected.phases)
    for name, phase in expected.phases.items():
        leaves = jax.tree.leaves(found.phases[name].state), jax.tree.leaves(phase.state)
        for one, other in zip(*leaves, strict=True):
            np.testing.assert_array_equal(one, other)
        assert losses(found.phases[name].lines) == losses(phase.lines)


def losses(lines):
    """What the log says of each epoch, but for the time it took."""
    return [{name: v for name, v in line.items() if "second" not in name} for line in lines]


def contents(directory):
    """The files below a directory, when each was last written, and what it holds."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


class Memory(nn.Module):
    """A body without recurrent weights: tanh of the sum of all words so far times a matrix; quick to compile."""

    size: int
    num_layers = 1

    @nn.compact
    def __call__(self, inputs, where, carry, keys):
        kernel = self.param("kernel", nn.initializers.normal(0.5), (inputs.shape[-1], self.size))
        memory = carry[:, None] + jnp.cumsum(jnp.where(where[..., None], inputs @ kernel, 0), axis=1)
        raw = jnp.tanh(memory)
        return States(raw, raw, memory[:, -1])

    def initial_carry(self, num_rows):
        return jnp.zeros((num_rows, self.size))


def own_score(logits):
    """A score of a user's own."""
    return logits + jax.nn.log_sigmoid(2 * logits)


not_a_score = 3
