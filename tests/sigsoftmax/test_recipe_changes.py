"""Any field of a recipe from the command line, and recipes from files."""

import functools
import json

from experiments.harness.settings import to_json
from experiments.sigsoftmax.__main__ import main
from experiments.sigsoftmax.recipe_changes import RecipeChanges, changed, find_recipe
from experiments.sigsoftmax.recipes import RECIPES
from tests.command_line import error_line

fails = functools.partial(error_line, main)


def described(capsys, *arguments):
    main(["describe", *arguments])
    return json.loads(capsys.readouterr().out)


def other(value):
    """A value of the same type that a recipe can have too."""
    words = {"wikitext2": "ptb", "sgd": "adam", "lstm": "lstm", "float32": "bfloat16"}
    return words[value] if isinstance(value, str) else value + 1 if isinstance(value, int) else value * 0.9


def others(values):
    return {name: others(v) if isinstance(v, dict) else other(v) for name, v in values.items()}


def flags(values, prefix="--recipe"):
    for name, value in values.items():
        flag = f"{prefix}.{name.replace('_', '-')}"
        yield from flags(value, flag) if isinstance(value, dict) else (flag, str(value))


def test_every_field_is_a_flag(capsys, tmp_path):
    recipe = to_json(RECIPES["mos_wikitext2"]) | {"finetune_bptt_excess": 10}
    recipe |= {"vocabulary_size": 9_999, "minimum_count": 1}
    wanted = others(recipe)
    assert sum(value == recipe[name] for name, value in wanted.items()) == 1  # there is one body
    for split in ("train", "valid", "test"):
        (tmp_path / f"ptb.{split}.txt").write_text("we the people we the people we once\n")
    found = described(capsys, "mos_wikitext2", *flags(wanted), "--data-dir", str(tmp_path))
    assert found["settings"] == wanted
    assert found["corpus"] == "ptb"
    assert found["vocabulary"] == 4  # those seen twice, and <unk>


def test_the_short_flag_counts_more(capsys):
    found = described(
        capsys, "mos_ptb", "--experts", "3", "--recipe.num-experts", "4", "--recipe.hidden-size", "7"
    )
    assert found["settings"] == to_json(RECIPES["mos_ptb"]) | {"num_experts": 3, "hidden_size": 7}


def test_what_is_not_set_stays():
    recipe = RECIPES["awd_ptb"]
    assert changed(recipe, RecipeChanges()) == recipe


def test_a_recipe_is_read_from_what_describe_prints(capsys, tmp_path):
    printed = described(capsys, "awd_ptb", "--recipe.dropouts.weight", "0.25")
    for values in (printed, printed["settings"]):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(values))
        again = described(capsys, str(path))
        assert again == printed | {"recipe": str(path)}
        assert find_recipe(str(path)).dropouts.weight == 0.25


def test_mistakes_are_one_line(capsys, tmp_path):
    assert "nowhere.json does not exist" in fails(capsys, "describe", "nowhere.json")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(to_json(RECIPES["awd_ptb"]) | {"depth": 3}))
    assert "mine.json has unknown settings: depth" in fails(capsys, "describe", str(path))
    assert "--hidden-size must be at least 1" in fails(capsys, "describe", "--recipe.hidden-size", "0")
    message = fails(capsys, "describe", "--recipe.dropouts.weight", "1.5")
    assert "dropout rate weight must lie in [0, 1), got 1.5" in message
