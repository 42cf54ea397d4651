"""An mmsegmentation config becomes a manifest entry that loads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import segzoo
from segzoo import registry
from segzoo.errors import UsageError
from segzoo.zoo.mmseg_import import as_yaml, import_config

MODEL = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder', pretrained=None,
    backbone=dict(type='DiNAT_s', embed_dim=96, depths=[2, 2], num_heads=[3, 6], kernel_size=7,
                  dilations=[[1, 16], [1, 8]], mlp_ratio=4., qkv_bias=True, drop_path_rate=0.3,
                  out_indices=(0, 1, 2, 3)),
    decode_head=dict(type='UPerHead', in_channels=[96, 192], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
                     channels=64, dropout_ratio=0.1, num_classes=19, norm_cfg=norm_cfg, align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    auxiliary_head=dict(type='FCNHead', in_channels=192, in_index=1, channels=32, num_convs=1, concat_input=False,
                        dropout_ratio=0.1, num_classes=19, loss_decode=dict(loss_weight=0.4)),
    test_cfg=dict(mode='whole'))
"""
DATA = """
dataset_type = 'ADE20KDataset'
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [dict(type='Resize', img_scale=(2048, 512), ratio_range=(0.5, 2.0)),
                  dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
                  dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
test_pipeline = [dict(type='MultiScaleFlipAug', img_scale=(2048, 512), flip=False,
                      transforms=[dict(type='AlignResize', size_divisor=32), dict(type='Normalize', **norm)])]
data = dict(samples_per_gpu=2, test=dict(pipeline=test_pipeline))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4)
runner = dict(type='IterBasedRunner', max_iters=160000)
"""
MAIN = """
_base_ = ['./model.py', './data.py']
model = dict(decode_head=dict(num_classes=150), auxiliary_head=dict(num_classes=150),
             test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
optimizer = dict(_delete_=True, type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01,
                 paramwise_cfg=dict(custom_keys={'rpb': dict(decay_mult=0.)}))
lr_config = dict(_delete_=True, policy='poly', warmup='linear', warmup_iters=1500, warmup_ratio=1e-6, power=1.0)
gpus = 4
runner = dict(max_iters=320000 // gpus)
optimizer_config = dict(type='Fp16OptimizerHook')
"""
ONE_X = """
_base_ = ['./model.py']
dataset_type = 'ADE20KDataset'
crop_size = (640, 640)
data_preprocessor = dict(mean=[1., 2., 3.], std=[4., 5., 6.], size=crop_size)
model = dict(backbone=dict(_delete_=True, type='mmpretrain.ConvNeXt', arch='tiny', out_indices=[0, 1, 2, 3],
                           drop_path_rate=0.4, layer_scale_init_value=1.0, gap_before_final_norm=False),
             auxiliary_head=dict(in_index=2), test_cfg=dict(mode='slide', crop_size=crop_size, stride=(426, 426)))
train_pipeline = [dict(type='RandomResize', scale=(2560, 640), ratio_range=(0.5, 2.0), keep_ratio=True),
                  dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0)]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(2560, 640), keep_ratio=True)]
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
                     paramwise_cfg={'decay_rate': 0.9, 'decay_type': 'stage_wise', 'num_layers': 6})
param_scheduler = [dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500),
                   dict(type='PolyLR', power=1.0, begin=1500, end=160000, eta_min=0.0)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000)
test_cfg = dict(type='TestLoop')
train_dataloader = dict(batch_size=2)
"""


@pytest.fixture
def configs(tmp_path):
    for name, text in (("model", MODEL), ("data", DATA), ("mine", MAIN), ("one_x", ONE_X)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_a_config_of_0_x_becomes_model_protocol_and_recipe(configs):
    sections = import_config(configs / "mine.py")
    assert sections["models"]["mine"]["architecture"] == {
        "backbone": {
            "type": "dinats", "embed_dim": 96, "depths": [2, 2], "num_heads": [3, 6], "kernel_size": 7,
            "dilations": [[1, 16], [1, 8]], "mlp_ratio": 4.0, "drop_path_rate": 0.3,
        },
        "head": {"type": "upernet", "pool_scales": [1, 2, 3, 6], "channels": 64, "dropout": 0.1},
        "auxiliary_head": {"type": "fcn", "in_index": 1, "channels": 32, "num_convs": 1, "dropout": 0.1},
    }  # fmt: skip
    assert sections["models"]["mine"]["num_classes"] == 150
    protocol = sections["protocols"]["mine"]
    assert (protocol["mode"], protocol["crop"], protocol["stride"]) == ("slide", [512, 512], [341, 341])
    assert (protocol["scale"], protocol["size_divisor"]) == ([2048, 512], 32)
    recipe = sections["recipes"]["mine"]
    assert (recipe["optimizer"], recipe["lr"], recipe["iterations"], recipe["batch_size"]) == ("adamw", 6e-5, 80000, 16)
    assert recipe["warmup"] == {"policy": "linear", "iterations": 1500, "ratio": 1e-6}
    assert recipe["losses"] == {"logits": 1.0, "aux_logits": 0.4}
    assert (recipe["precision"], recipe["sync_batch_norm"]) == ("fp16", True)


def test_a_config_of_1_x(configs):
    sections = import_config(configs / "one_x.py", name="big", gpus=4)
    backbone = sections["models"]["big"]["architecture"]["backbone"]
    assert (backbone["type"], backbone["dims"], backbone["layer_scale"]) == ("convnext", [96, 192, 384, 768], 1.0)
    protocol = sections["protocols"]["big"]
    assert (protocol["scale"], protocol["stride"], protocol["mean"]) == ([2560, 640], [426, 426], [1.0, 2.0, 3.0])
    recipe = sections["recipes"]["big"]
    assert recipe["layer_decay"] == {"rate": 0.9, "layers": 6, "kind": "stage"}
    assert (recipe["batch_size"], recipe["category_max_ratio"], recipe["precision"]) == (8, None, "fp16")


def test_what_is_printed_loads_as_a_manifest(configs, tmp_path, monkeypatch):
    manifest = tmp_path / "mine.yaml"
    manifest.write_text(as_yaml(import_config(configs / "mine.py")))
    monkeypatch.setenv("SEGZOO_ZOO", str(manifest))
    assert registry.get_protocol("mine").crop == (512, 512)
    assert segzoo.create_model("mine", device="meta").state_dict()["backbone.layers.0.blocks.0.attn.rpb"].shape[0] == 3


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("type='UPerHead'", "type='PSPHead'", "the zoo has no head for 'PSPHead'"),
        ("align_corners=False,\n", "align_corners=True,\n", "align_corners=True is not known here"),
        ("concat_input=False,", "", "concat_input=True is not known here"),
        ("embed_dim=96", "embed_dim=96, ape2=True", "the word 'ape2' (=True) is not known here"),
    ],
)
def test_what_the_zoo_does_not_have_is_named(configs, before, after, reason):
    assert before in MODEL
    (configs / "model.py").write_text(MODEL.replace(before, after))
    with pytest.raises(UsageError) as caught:
        import_config(configs / "mine.py")
    assert reason in str(caught.value) and "mine.py" in str(caught.value)


def test_the_command_prints_yaml_or_json_and_writes_a_file(configs):
    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "segzoo", "import", str(configs / "mine.py"), *words], capture_output=True, text=True
        )

    assert "type: dinats" in run().stdout
    assert json.loads(run("--json").stdout)["models"]["mine"]["dataset"] == "ade20k"
    written = run("--write", str(configs / "out.yaml"), "--name", "other")
    assert written.returncode == 0 and written.stdout == ""
    assert "other:" in (configs / "out.yaml").read_text()
