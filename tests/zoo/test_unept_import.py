"""UN-EPT's configs, which have no decode head, become the zoo's own rows."""

from __future__ import annotations

import pytest

from segzoo.errors import UsageError
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.mmseg_import import import_config

RESNET = """dict(type='ResNetV1c', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1), norm_cfg=norm_cfg, norm_eval=False, style='pytorch', contract_dilation=True)"""
DEIT = "dict(type='DeiT', img_size=480, patch_size=16, embed_dim=768, bb_depth=12, num_heads=12, mlp_ratio=4)"
CONFIG = """
dataset_type = '{dataset}'
img_scale = {scale}
crop_size = (480, 480)
train_pipeline = [dict(type='Resize', img_scale=img_scale, ratio_range=(0.5, 2.0)),
                  dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
                  dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
test_pipeline = [dict(type='MultiScaleFlipAug', img_scale=img_scale, img_ratios=[0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
                      flip=True, transforms=[dict(type='Resize', keep_ratio=True), dict(type='RandomFlip')])]
data = dict(samples_per_gpu=2, test=dict(pipeline=test_pipeline))
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(type='UN_EPT', feat_dim=256, k=16, L=3, dropout=0.1, heads=8, hidden_dim=2048, depth=2,
             pretrained='file.pth', backbone_cfg={backbone},
             loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0))
train_cfg = dict()
test_cfg = dict(mode='slide', num_classes={classes}, stride=(160, 160), crop_size={crop}, num_queries=3600)
optimizer = dict(type='AdamW', lr=0.0001, weight_decay=0.0001, betas=(0.9, 0.999), eps=1e-8,
                 paramwise_cfg=dict(custom_keys={{'backbone': dict(lr_mult=0.1)}}))
optimizer_config = dict()
lr_config = dict(policy='step', step=126000, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=160000)
"""
ROWS = {
    "unept-res50": {"dataset": "ADE20KDataset", "scale": (2048, 512), "backbone": RESNET, "classes": 150},
    "unept-deit": {"dataset": "ADE20KDataset", "scale": (2048, 512), "backbone": DEIT, "classes": 150},
    "unept-deit-pcontext": {"dataset": "PascalContextDataset", "scale": (520, 520), "backbone": DEIT, "classes": 60},
}
# What the configs spell out although our components have it anyway.
USUAL = {"patch_size": 16, "mlp_ratio": 4, "contract_dilation": True, "out_indices": [3, 7, 11], "image_size": 480}


def written(tmp_path, **words):
    file = tmp_path / "mine.py"
    file.write_text(CONFIG.format(**{"crop": "crop_size", **words}))
    return file


@pytest.mark.parametrize("row", ROWS)
def test_the_configs_are_the_zoos_rows(row, tmp_path):
    sections = import_config(written(tmp_path, **ROWS[row]))
    manifest, model = load_manifest(), sections["models"]["mine"]
    entry = manifest.models[row]
    assert (model["dataset"], model["num_classes"]) == (entry.dataset, entry.num_classes)
    for part, words in (("backbone", entry.architecture.backbone), ("segmentor", entry.architecture.segmentor)):
        assert {**USUAL, **model["architecture"][part]} == {**USUAL, **words}
    recipe, ours = sections["recipes"]["mine"], manifest.recipes[entry.recipe]
    for word, value in recipe.items():
        kept = getattr(ours, word)
        assert (list(kept) if isinstance(kept, tuple) else kept) == value, word
    protocol, ours = sections["protocols"]["mine"], manifest.protocols[entry.protocol].aug_test()
    for word, value in protocol.items():
        kept = getattr(ours, word)
        assert (list(kept) if isinstance(kept, tuple) else kept) == value, word


def test_queries_that_do_not_fit_the_window_are_refused(tmp_path):
    file = written(tmp_path, **{**ROWS["unept-res50"], "crop": (512, 512)})
    with pytest.raises(UsageError, match=r"mine\.py: UN_EPT: 3600 queries are not one for each 8x8 pixels"):
        import_config(file)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("depth=50", "depth=18", "ResNetV1c: depth=18 is not known here; 50, 101, 152 are"),
        ("style='pytorch'", "style='caffe'", "ResNetV1c: style='caffe' is not known here"),
        ("feat_dim=256", "feat_dim=256, window=7", "UN_EPT: the word 'window'"),
    ],
)
def test_words_that_the_zoo_does_not_have_are_named(old, new, match, tmp_path):
    file = written(tmp_path, **ROWS["unept-res50"])
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UsageError, match=match):
        import_config(file)
