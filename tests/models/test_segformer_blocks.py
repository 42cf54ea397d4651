"""Single blocks of the SegFormer family against the code they come from, for weights that are a function of names."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fill import fill_array, input_image
from oracle_files import oracle
from torch import Tensor, nn

from segzoo.errors import UsageError
from segzoo.models.backbones import mscan, mscan_nota, segformer_hybrid
from segzoo.models.heads import hamburger, lawin
from segzoo.models.matrix_decomposition import MatrixDecomposition
from segzoo.models.segformer_attention import AttentionSlot, EfficientAttention, build_attention
from segzoo.models.segformer_blocks import build_block, build_ffn
from segzoo.models.segformer_layers import to_map, to_tokens
from segzoo.models.strip_attention import SEGNEXT_NAMES, TEAM_NAMES, MultiScaleUnit, StripAttention

FACTS = "segformer-blocks/spec.json"
# Their names, where they are not ours: (pattern, replacement).
RENAMES = {
    "efficient-attention": [("^keys", "key"), ("^queries", "query"), ("^values", "value")],
    "lsra": [
        ("^q[.]", "self.query."),
        ("^proj", "output.dense"),
        ("^norm", "self.layer_norm"),
        ("^(kv|sr)", r"self.\1"),
    ],
    "nextvit-ncb": [("mlp.fc", "1.mlp.conv"), ("^patch_embed", "0"), ("^(mhca|norm)", r"1.\1")],
    "pvtv2-linear-ffn": [("fc", "dense"), ("dwconv", "dwconv.dwconv")],
}


def seed_of(block: str) -> int:
    return zlib.crc32(f"ham_bases:block-{block}".encode())


def layer(wiring: str, *, projection: bool) -> nn.Module:
    return build_block(
        wiring, 64, AttentionSlot("lsra", 64, 2, 1, projection=projection), build_ffn("dest", 64, 256), 0
    )


def next_conv_block() -> nn.Module:
    return nn.Sequential(segformer_hybrid.PoolEmbedding(32, 64, stride=2), segformer_hybrid.NextConvBlock(64))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "efficient-attention": lambda: EfficientAttention(32, 4, key_channels=16, value_channels=8),
    "lawin-attention": lambda: lawin.WindowToContext(64, 4, patch=4),
    "lsra": lambda: AttentionSlot("lsra", 64, 2, 1, projection=True),
    "msca": lambda: StripAttention(32, SEGNEXT_NAMES, chained=True),
    "msca-attention": lambda: MultiScaleUnit(32),
    "mscan-block": lambda: mscan.Block(32, mlp_ratio=4, drop_path=0),
    "nextvit-ncb": next_conv_block,
    "nmf": lambda: MatrixDecomposition(32, 8, eval_steps=7, eps=1e-6, seed=seed_of("nmf")),
    "nota-dest-mixffn": lambda: build_ffn("dest", 32, 128),
    "nota-ea": lambda: AttentionSlot("efficient", 64, 4, 1, projection=True),
    "nota-hamburger-lite": lambda: hamburger.TeamHamburger(
        32, 512, rank=8, seed=seed_of("nota-hamburger-lite"), breads=False, cheese=False
    ),
    "nota-layer-prenorm": lambda: layer("pre-norm", projection=False),
    "nota-layer-recursive": lambda: layer("recursive", projection=True),
    "nota-lsra": lambda: build_attention("lsra", 64, 2, 1),
    "nota-lsrea": lambda: build_attention("lsrea", 64, 4, 1),
    "nota-msca": lambda: StripAttention(32, TEAM_NAMES, chained=False),
    "nota-mscan-stage-block": lambda: mscan_nota.StageBlock(32, mlp_ratio=4, triple=False, drop_path=0),
    "nota-ncb": lambda: segformer_hybrid.NextConvBlock(64),
    "nota-pool-patch-embed-s4": lambda: segformer_hybrid.PoolEmbedding(3, 32, stride=4),
    "nota-window-attention-sr1": lambda: AttentionSlot("window", 64, 2, 1, projection=False),
    "nota-window-attention-sr2": lambda: AttentionSlot("window", 64, 2, 2, projection=False),
    "pvtv2-linear-ffn": lambda: build_ffn("mix-relu", 32, 128),
}
# Height and width of the map that the tokens of an input are.
SIZES = {
    "lsra": (13, 18),
    "mscan-block": (17, 23),
    "nota-dest-mixffn": (9, 11),
    "nota-window-attention-sr1": (14, 21),
    "nota-window-attention-sr2": (14, 21),
    "pvtv2-linear-ffn": (9, 11),
}


def our_name(block: str, key: str) -> str:
    for pattern, replacement in RENAMES.get(block, []):
        key = re.sub(pattern, replacement, key)
    return key


def run(block: str, module: nn.Module, given: Tensor) -> Tensor:
    size = SIZES.get(block, (13, 18))
    if block == "lawin-attention":
        return module(given[:3], given[3:])
    if block in ("nmf", "nota-hamburger-lite"):
        return module(given.relu())
    if block == "mscan-block":
        return to_tokens(module(to_map(given, size)))
    if block == "efficient-attention":
        return to_map(module(to_tokens(given), (9, 13)), (9, 13))
    return module(given, size) if given.ndim == 3 else module(given)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_equals_its_original(block):
    facts = json.loads(oracle(FACTS).read_text())[block]
    module = BLOCKS[block]().eval()
    state = {our_name(block, key): (key, shape) for key, shape in facts["state_dict"].items()}
    own = {key: list(value.shape) for key, value in module.state_dict().items() if value.is_floating_point()}
    assert own == {name: shape for name, (_, shape) in state.items()}
    filled = {name: torch.from_numpy(fill_array(key, tuple(shape))) for name, (key, shape) in state.items()}
    module.load_state_dict(filled, strict=False)
    name, shape = facts["input"]
    with torch.inference_mode():
        measured = run(block, module, torch.from_numpy(input_image(name, tuple(shape))))
    assert list(measured.shape) == facts["shape"]
    expected = np.load(oracle("segformer-blocks/output.npz"))[block]
    assert np.abs(measured.numpy().ravel()[::7] - expected).max() <= 1e-5 * facts["std"]


def test_every_recorded_block_is_tested():
    assert set(BLOCKS) == set(json.loads(oracle(FACTS).read_text()))


def test_window_attention_refuses_a_map_it_cannot_cut():
    attention = build_attention("window", 16, 2, 1)
    with pytest.raises(UsageError, match="a map of 14x20 is no multiple"):
        attention(torch.zeros(1, 280, 16), (14, 20))


def test_window_attention_stays_inside_its_window():
    torch.manual_seed(0)
    attention = build_attention("window", 16, 2, 2)
    tokens = torch.randn(1, 14 * 14, 16)
    changed = to_map(tokens, (14, 14)).clone()
    changed[:, :, :7, :7] += 1
    difference = (
        to_map(attention(to_tokens(changed), (14, 14)) - attention(tokens, (14, 14)), (14, 14)).abs().amax(1)[0]
    )
    assert difference[:7, :7].min() > 0
    difference[:7, :7] = 0
    assert difference.max() == 0


@pytest.mark.parametrize("name", ["efficient", "lsrea"])
def test_heads_that_do_not_divide_the_narrow_keys_are_refused(name):
    with pytest.raises(UsageError, match="5 heads do not divide its 64 key and 32 value channels"):
        build_attention(name, 320, 5, 1)


def test_the_order_of_the_products_of_efficient_attention_is_only_a_matter_of_cost():
    # By hand, with the N x N matrix that the module never forms.
    torch.manual_seed(0)
    attention = build_attention("efficient", 12, 2, 1).double()
    tokens = torch.randn(1, 20, 12, dtype=torch.float64)
    features = to_map(tokens, (4, 5))
    query, key, value = (conv(features).flatten(2)[0] for conv in (attention.query, attention.key, attention.value))
    heads = []
    for head in range(2):
        q = query[32 * head : 32 * head + 32].softmax(dim=0)
        k = key[32 * head : 32 * head + 32].softmax(dim=1)
        heads.append(value[16 * head : 16 * head + 16] @ (k.T @ q))
    expected = attention.reprojection(torch.cat(heads).reshape(1, 32, 4, 5)) + features
    torch.testing.assert_close(attention(tokens, (4, 5)), to_tokens(expected))


def test_lsra_takes_maps_smaller_than_its_pool():
    attention = build_attention("lsra", 16, 2, 1)
    assert attention(torch.zeros(2, 6, 16), (2, 3)).shape == (2, 6, 16)


def test_the_factorisation_approaches_a_matrix_that_has_one():
    torch.manual_seed(0)
    bases, coefficients = torch.rand(1, 16, 3), torch.rand(1, 3, 60)
    matrix = (bases @ coefficients).reshape(1, 16, 6, 10)
    rough, fine = (MatrixDecomposition(16, 3, eval_steps=steps).eval()(matrix) for steps in (1, 400))
    assert (fine - matrix).norm() < 0.1 * (rough - matrix).norm()
    assert (fine - matrix).norm() < 0.02 * matrix.norm()


def test_bases_are_fixed_in_evaluation_and_new_in_training():
    layer = MatrixDecomposition(8, 4, seed=3)
    features = torch.rand(2, 8, 5, 6)
    assert torch.equal(layer.eval()(features), layer(features))
    assert torch.equal(layer(features), MatrixDecomposition(8, 4, seed=3).eval()(features))
    assert not torch.equal(layer(features), MatrixDecomposition(8, 4, seed=4).eval()(features))
    assert not torch.equal(layer.train()(features), layer(features))
    assert not layer.state_dict()


def test_evaluation_gives_an_image_the_same_answer_in_any_batch():
    layer = MatrixDecomposition(8, 4).eval()
    features = torch.rand(3, 8, 5, 6)
    torch.testing.assert_close(layer(features)[1:2], layer(features[1:2]))


@pytest.mark.parametrize("full", [True, False])
def test_gradients_flow_through_all_updates_or_the_last(full):
    torch.manual_seed(0)
    layer = MatrixDecomposition(4, 2, full_gradient=full).double().eval()
    features = torch.rand(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    layer(features).sum().backward()
    step = 1e-6
    shifted = features.detach().clone()
    shifted[0, 1, 1, 1] += step
    slope = (layer(shifted).sum() - layer(features).sum()).item() / step
    # Only the full gradient is the true one.
    assert (abs(features.grad[0, 1, 1, 1].item() - slope) < 1e-4) is full


def test_the_factorisation_works_in_single_precision_under_autocast():
    layer = MatrixDecomposition(8, 4).eval()
    features = torch.rand(1, 8, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer(features)
    assert torch.equal(inside, layer(features))
    assert layer(features.bfloat16()).dtype == torch.bfloat16
