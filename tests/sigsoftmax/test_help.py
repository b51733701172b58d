"""The help of each command: its flags, the names of every table, and what the recipe fixes."""

import re

import pytest

from experiments.data.text import corpus_names
from experiments.sigsoftmax.__main__ import COMMANDS, main
from experiments.sigsoftmax.config import NETWORKS
from experiments.sigsoftmax.evaluations import EVALUATIONS
from experiments.sigsoftmax.models import BODIES
from experiments.sigsoftmax.recipes import OPTIMIZERS, RECIPES
from sigsoftmax_jax.scores import SCORES

pytestmark = pytest.mark.usefixtures("corpus")


def printed_help(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--help"])
    assert exit_info.value.code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


def test_help_names_all_commands(capsys):
    printed = printed_help(capsys)
    assert all(word in printed for word in COMMANDS)


CORPORA = corpus_names()
OF_RECIPE = ["--data", "--vocabulary-size", "--minimum-count", "--body",
    "--epochs", "--finetune-epochs", "--batch-size", "--learning-rate",
    "--finetune-learning-rate", "--optimizer", "--bptt"]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "tables", "of_recipe", "others"),
    [
        (
            "compare", [["small", "awd_ptb", "awd_wikitext2"], NETWORKS, EVALUATIONS, CORPORA, OPTIMIZERS, BODIES],
            OF_RECIPE, ["--out", "--data-dir", "--seed", "--seeds", "--force", "--rank.contexts", "--distributed"],
        ),
        (
            "train", [RECIPES, SCORES, CORPORA, OPTIMIZERS, BODIES],
            [*OF_RECIPE, "--experts"], ["--score", "--checkpoint-every"],
        ),
        ("evaluate", [EVALUATIONS], [], ["--run", "--out", "--samples.words"]),
        ("describe", [RECIPES, CORPORA], ["--data", "--experts"], ["--data-dir"]),
        ("generate", [], [], ["--prompt", "--words", "--temperature"]),
        ("export", [], [], ["--run", "--out"]),
    ],
)  # fmt: skip
def test_help_names_all_choices_and_says_what_the_recipe_fixes(capsys, command, tables, of_recipe, others):
    printed = printed_help(capsys, command)
    for table in tables:
        # The names of a table stand in one row; "memory" was added after the texts were made.
        assert ", ".join(name for name in table if name != "memory") in printed
    for flag in [*of_recipe, *others]:
        assert re.search(rf"(?<!\S){re.escape(flag)}(?![\w.-])", printed), flag
    for flag in of_recipe:
        (about,) = re.findall(rf"(?<!\S){flag} .*?\(default: (.*?)\)", printed)
        assert about == "the recipe's", flag
