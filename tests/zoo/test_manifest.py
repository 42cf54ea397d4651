"""zoo.yaml and manifests of a user's own: what loads, and how a mistake is reported."""

from __future__ import annotations

import pytest

import segzoo
from segzoo import registry
from segzoo.errors import UsageError
from segzoo.zoo.manifest import load_manifest

ENTRY = """
models:
  mine:
    architecture: {backbone: {type: nat, embed_dim: 16, depths: [1, 1], num_heads: [1, 2]}, head: {type: upernet}}
    dataset: ade20k
    num_classes: 150
    protocol: ade20k-whole
"""


@pytest.fixture
def use(tmp_path, monkeypatch):
    def write(text: str) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        monkeypatch.setenv("SEGZOO_ZOO", str(file))

    return write


def message(text: str, use) -> str:
    use(text)
    with pytest.raises(UsageError) as caught:
        load_manifest()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_entry_builds_on_the_meta_device():
    for name in registry.names():
        model = segzoo.create_model(name, device="meta")
        assert all(parameter.is_meta for parameter in model.parameters()), name


def test_every_entry_names_its_source_and_licence_or_says_why_not():
    for name in registry.names():
        entry = registry.entry(name)
        assert entry.published is not None or any("published" in note for note in entry.notes), name
        assert entry.licence or any("licence" in note for note in entry.notes), name


def test_globs_select_in_the_manifests_order_without_repeats():
    assert registry.names("nat-*")[:4] == ["nat-mini", "nat-tiny", "nat-small", "nat-base"]
    assert registry.select(["nat-tiny", "nat-*"])[:2] == ["nat-tiny", "nat-mini"]


def test_an_unknown_model_is_answered_with_near_names():
    with pytest.raises(UsageError, match=r"unknown model 'nat-tny'; did you mean 'nat-tiny'"):
        registry.entry("nat-tny")


def test_a_users_manifest_adds_to_the_built_in_one(use):
    use(ENTRY)
    assert registry.names("mine") == ["mine"]
    assert "nat-tiny" in registry.names()
    assert registry.get_protocol("mine") == registry.get_protocol("ade20k-whole")


def test_an_unknown_field_names_file_entry_and_near_field(use):
    text = message(ENTRY.replace("dataset:", "datset:"), use)
    assert "mine.yaml: models.mine" in text
    assert "`datset`; did you mean 'dataset'?" in text


def test_a_wrong_type_names_the_field(use):
    assert "models.mine.num_classes: Expected `int`, got `str`" in message(ENTRY.replace(": 150", ": many"), use)


def test_a_dangling_name_is_answered_with_near_names(use):
    text = message(ENTRY.replace("ade20k-whole", "ade20k-whle"), use)
    assert "models.mine.protocol: no such protocol: 'ade20k-whle'; did you mean 'ade20k-whole'" in text


def test_a_key_that_stands_twice_is_an_error(use):
    assert "stands twice" in message(ENTRY + "    num_classes: 3\n", use)


def test_an_unknown_section_is_an_error(use):
    assert "unknown section 'model'; did you mean 'models'?" in message(ENTRY.replace("models:", "model:"), use)


def test_broken_yaml_is_one_line(use):
    assert "is not valid YAML" in message("models: {a: [", use)


def test_an_impossible_protocol_is_reported_with_its_reason(use):
    assert 'mode "slide" needs crop and stride' in message("protocols: {p: {mode: slide}}", use)


def test_a_parameter_that_the_architecture_does_not_take_is_reported(use):
    use(ENTRY.replace("embed_dim", "embed_dims"))
    with pytest.raises(UsageError, match="'nat' of backbones has no parameter 'embed_dims'; did you mean 'embed_dim'"):
        segzoo.create_model("mine", device="meta")


def test_an_unknown_component_lists_the_known_ones(use):
    use(ENTRY.replace("type: nat", "type: natt"))
    with pytest.raises(UsageError, match="no backbones of type 'natt'; did you mean 'nat'"):
        segzoo.create_model("mine", device="meta")
