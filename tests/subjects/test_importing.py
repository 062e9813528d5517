from __future__ import annotations

import pickle
import sys

import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.importing import Config, call_with_config, imported, is_spec


def get(spec, **options):
    with imported(spec, **options) as found:
        return found


def fails(spec, **options):
    with pytest.raises(SubjectError) as caught:
        get(spec, **options)
    return str(caught.value)


def test_what_names_code():
    assert is_spec("shop.models:build")
    assert is_spec("a folder/own-file.py:Net.build")
    assert not any(
        map(is_spec, ["shop", "shop.models", "a b:c", "x.pt", ":build", "shop:", "runs/a:b", "{a: 1}"])
    )


def test_module_and_file_give_the_same_object(project):
    assert get("shop:Net") is get("shop.py:Net") is get(f"{project}/shop.py:Net")
    assert get("shop:Net.forward").__qualname__ == "Net.forward"


def test_a_file_is_imported_once_under_its_own_name(project, write):
    write(
        "elsewhere/blocks.py",
        "count = []\ncount.append(1)\nfrom dataclasses import dataclass\n@dataclass\nclass Box:\n    a: 'int' = 1",
    )
    box = get("elsewhere/blocks.py:Box")
    assert get("elsewhere/../elsewhere/blocks.py:Box") is box
    assert sys.modules["blocks"].Box is box
    assert pickle.loads(pickle.dumps(box(3))) == box(3)


def test_a_file_never_takes_the_place_of_another_module(project, write):
    write("one/statistics.py", "name = 'mine'")
    write("two/shop.py", "name = 'two'")
    get("shop:Net")
    assert get("one/statistics.py:name") == "mine"
    assert get("two/shop.py:name") == "two"
    import statistics

    assert statistics.mean([1, 3]) == 2
    assert "one" not in statistics.__file__


def test_siblings_and_packages(project, write):
    write(
        "lib/front.py",
        "from back import value\ndef later():\n    import much_later\n    return much_later.value",
    )
    write("lib/back.py", "value = 5")
    write("lib/much_later.py", "value = 6")
    write("pack/__init__.py", "")
    write("pack/inner/__init__.py", "")
    write("pack/inner/models.py", "from ..base import value")
    write("pack/base.py", "value = 7")
    before = list(sys.path)
    assert get("lib/front.py:value") == 5
    with imported("lib/front.py:later") as later:
        assert later() == 6
    assert get("pack/inner/models.py:value") == 7
    assert sys.modules["pack.inner.models"].value == 7
    assert sys.path == before


def test_paths_and_base(project, write):
    write("src/deep/thing.py", "value = 8")
    assert get("deep.thing:value", paths=[project / "src"]) == 8
    assert get("thing.py:value", base=project / "src" / "deep") == 8


def test_errors_name_what_is_missing(project, write):
    assert "there is no module 'shopp'" in fails("shopp:build")
    assert "name that folder in 'paths' of trainlab.toml" in fails("shopp:build")
    assert "there is no module 'shop.models'" in fails("shop.models:build")
    assert "shop has no 'biuld'\n  try:  did you mean 'build'?" in fails("shop:biuld")
    assert "did you mean 'shop.py:build'?" in fails("shpo.py:build")
    write("needs.py", "import not_there_at_all")
    assert "importing needs failed: No module named 'not_there_at_all'" in fails("needs:x")
    write("broken.py", "1 / 0")
    assert "importing broken failed: ZeroDivisionError" in fails("broken:x")
    assert "failed: ZeroDivisionError" in fails("broken.py:x")
    assert "broken" not in sys.modules
    assert "'package.module:name'" in fails("__import__('os').system('true')")


CONFIG = {"hidden": 4, "depth": 2, "name": "a"}


def called(function, config=CONFIG, **options):
    return call_with_config(function, config, name="shop:build", **options)


def test_how_a_builder_gets_the_config():
    assert called(lambda config: config) == (CONFIG, "shop:build(config)")
    assert called(lambda hparams, depth=1: (hparams, depth)) == ((CONFIG, 1), "shop:build(config)")
    assert called(lambda cfg, hidden: (cfg, hidden))[0] == (CONFIG, 4)
    assert called(lambda hidden, depth=1, width=9: (hidden, depth, width)) == (
        (4, 2, 9),
        "shop:build(hidden, depth)",
    )
    assert called(lambda **keys: keys)[0] == CONFIG
    assert called(lambda settings: settings) == (CONFIG, "shop:build(config)")
    assert called(lambda: 1) == (1, "shop:build()")
    assert called(dict, None) == ({}, "shop:build()")
    assert called(lambda hidden=3: hidden, None)[0] == 3
    assert called(lambda config=None: config, None)[0] is None
    assert called(lambda hidden, device: device, device="cpu") == ("cpu", "shop:build(hidden, device)")


def test_what_cannot_be_filled_is_named():
    def build(hiden: int):
        return hiden

    with pytest.raises(SubjectError) as caught:
        called(build)
    assert str(caught.value).startswith("shop:build needs 'hiden'\n  seen: config with hidden, depth, name")
    assert caught.value.fix == "did you mean 'hidden'?"
    with pytest.raises(SubjectError, match="no stored config to take them from"):
        called(build, None)


def test_a_builder_that_fails_is_named_with_its_cause():
    with pytest.raises(
        SubjectError, match=r"shop:build\(config\) failed: AttributeError: the config has no 'hiden'"
    ) as caught:
        called(lambda config: config.hiden)
    assert "did you mean 'hidden'?" in str(caught.value)
    assert isinstance(caught.value.__cause__, AttributeError)


def test_config_is_a_dict_with_attributes():
    config = Config({"a": {"b": [1]}})
    assert config.a.b == [1]
    assert isinstance(config, dict)
    assert not hasattr(config, "c")
