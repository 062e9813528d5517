from __future__ import annotations

import pytest

from trainlab.errors import SubjectError
from trainlab.subjects import find_recipe


def test_every_key(ckpt, write):
    file = write(
        "trainlab.toml",
        """
        model = "shop:build"
        batch = {x = {shape = [2, 8]}}
        loss = "shop:Square"
        paths = ["src", "../other"]
        [limits.variation]
        variation_min = 0.02
        """,
    )
    recipe = find_recipe(ckpt)
    assert (recipe.path, recipe.folder, recipe.model, recipe.loss) == (
        file,
        file.parent,
        "shop:build",
        "shop:Square",
    )
    assert recipe.batch == {"x": {"shape": [2, 8]}}
    assert recipe.paths == (file.parent / "src", file.parent.parent / "other")
    assert recipe.limits == {"variation": {"variation_min": 0.02}}


def test_the_nearest_wins_and_trainlab_toml_before_pyproject(ckpt, write):
    write("pyproject.toml", '[tool.trainlab]\nmodel = "far:project"')
    assert find_recipe(ckpt).model == "far:project"
    write("trainlab.toml", 'model = "far:own"')
    assert find_recipe(ckpt).model == "far:own"
    write("runs/pyproject.toml", '[tool.trainlab]\nmodel = "near:project"')
    assert find_recipe(ckpt).model == "near:project"
    write("runs/a/pyproject.toml", '[project]\nname = "says-nothing"')
    assert find_recipe(ckpt).model == "near:project"
    write("runs/a/trainlab.toml", 'model = "nearest:own"')
    assert find_recipe(ckpt).model == find_recipe(ckpt.parent).model == "nearest:own"


def test_a_relative_path_and_a_file_that_is_not_there(project, write):
    write("trainlab.toml", 'model = "shop:build"')
    assert find_recipe("runs/a/none.pt").path == project / "trainlab.toml"


def test_no_recipe(tmp_path):
    assert find_recipe(tmp_path / "a.pt") is None


def fails(path):
    with pytest.raises(SubjectError) as caught:
        find_recipe(path)
    return str(caught.value)


def test_an_unknown_key_is_named_with_its_file(ckpt, write):
    file = write("trainlab.toml", 'modle = "shop:build"')
    assert fails(ckpt) == f"{file} has an unknown key 'modle'\n  try:  did you mean 'model'?"
    file.unlink()
    file = write("pyproject.toml", '[tool.trainlab]\nbach = "x"')
    assert f"{file} has an unknown key 'bach'" in fails(ckpt)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model = 3", "'model' in"),
        ("batch = [1]", "is a string or a table"),
        ("loss = true", "'loss' in"),
        ('paths = "src"', "is a list of strings"),
        ("limits = 0.3", "tables of limits"),
        ("[limits]\nvariation_min = 0.3", "as in [limits.variation]"),
    ],
)
def test_values_of_the_wrong_kind(ckpt, write, line, words):
    write("trainlab.toml", line)
    assert words in fails(ckpt)


def test_malformed_toml_names_the_line(ckpt, write):
    file = write("trainlab.toml", 'loss = "shop:Square"\nmodel = shop:build\n')
    text = fails(ckpt)
    assert f"{file} is not TOML" in text
    assert "line 2" in text
    assert 'strings stand in quotes: model = "shop.models:build"' in text


def test_a_broken_pyproject_that_does_not_mention_trainlab_is_passed_by(ckpt, write):
    write("pyproject.toml", "[project")
    assert find_recipe(ckpt) is None
