"""SegFormer's layouts: NVlabs' own names, Hugging Face's in its files and in its newer memory, encoders alone.

The names of the original are where all others meet. NOTA's files have the names of transformers 4.
"""

from __future__ import annotations

from segzoo.weights.layout import Join, Layout, Rename

STAGES = range(4)
# Hugging Face's word and the original's, below a block; the attention's keys and values are one tensor there.
_BLOCK_WORDS = (
    ("layer_norm_1", "norm1"),
    ("attention.self.query", "attn.q"),
    ("attention.self.sr", "attn.sr"),
    ("attention.self.layer_norm", "attn.norm"),
    ("attention.output.dense", "attn.proj"),
    ("layer_norm_2", "norm2"),
    ("mlp.dense1", "mlp.fc1"),
    ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
    ("mlp.dense2", "mlp.fc2"),
)
# The word of transformers 5 and that of transformers 4, below a block.
_NEW_WORDS = (
    ("attention.q_proj", "attention.self.query"),
    ("attention.k_proj", "attention.self.key"),
    ("attention.v_proj", "attention.self.value"),
    ("attention.sequence_reduction.sequence_reduction", "attention.self.sr"),
    ("attention.sequence_reduction.layer_norm", "attention.self.layer_norm"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "mlp.dense1"),
    ("mlp.fc2", "mlp.dense2"),
    ("layernorm_before", "layer_norm_1"),
    ("layernorm_after", "layer_norm_2"),
)


def _stage_renames(stage: int) -> tuple[Rename, ...]:
    theirs, ours = f"segformer.encoder.block.{stage}.{{block}}", f"backbone.block{stage + 1}.{{block}}"
    embedding, patch = f"segformer.encoder.patch_embeddings.{stage}", f"backbone.patch_embed{stage + 1}"
    return (
        Rename(f"{embedding}.proj.{{leaf}}", f"{patch}.proj.{{leaf}}"),
        Rename(f"{embedding}.layer_norm.{{leaf}}", f"{patch}.norm.{{leaf}}"),
        *(Rename(f"{theirs}.{word}.{{leaf}}", f"{ours}.{original}.{{leaf}}") for word, original in _BLOCK_WORDS),
        Rename(f"segformer.encoder.layer_norm.{stage}.{{leaf}}", f"backbone.norm{stage + 1}.{{leaf}}"),
        Rename(f"decode_head.linear_c.{stage}.proj.{{leaf}}", f"decode_head.linear_c{stage + 1}.proj.{{leaf}}"),
    )


def _key_value(stage: int) -> Join:
    attention = f"segformer.encoder.block.{stage}.{{block}}.attention.self"
    return Join(
        (f"{attention}.key.{{leaf}}", f"{attention}.value.{{leaf}}"),
        f"backbone.block{stage + 1}.{{block}}.attn.kv.{{leaf}}",
    )


ORIGINAL = Layout(name="original", detect=("backbone.block{stage}.{block}.attn.q.{leaf}",))

HUGGING_FACE = Layout(
    name="hugging-face",
    aliases=("nota",),
    detect=("segformer.encoder.block.{stage}.{block}.attention.self.query.{leaf}",),
    renames=(
        *(rename for stage in STAGES for rename in _stage_renames(stage)),
        Rename("decode_head.linear_fuse.weight", "decode_head.linear_fuse.conv.weight"),
        Rename("decode_head.batch_norm.{leaf}", "decode_head.linear_fuse.bn.{leaf}"),
        Rename("decode_head.classifier.{leaf}", "decode_head.linear_pred.{leaf}"),
    ),
    joins=tuple(_key_value(stage) for stage in STAGES),
    # In every published checkpoint of the original, and used by no forward pass.
    lacks=("decode_head.conv_seg.{leaf}",),
    into=ORIGINAL,
)

HUGGING_FACE_5 = Layout(
    name="hugging-face-5",
    detect=("segformer.stages.{stage}.blocks.{block}.attention.q_proj.{leaf}",),
    renames=(
        Rename(
            "segformer.stages.{stage}.patch_embeddings.{rest*}", "segformer.encoder.patch_embeddings.{stage}.{rest*}"
        ),
        *(
            Rename(
                f"segformer.stages.{{stage}}.blocks.{{block}}.{new}.{{leaf}}",
                f"segformer.encoder.block.{{stage}}.{{block}}.{old}.{{leaf}}",
            )
            for new, old in _NEW_WORDS
        ),
        Rename("segformer.stages.{stage}.blocks.{rest*}", "segformer.encoder.block.{stage}.{rest*}"),
        Rename("segformer.stages.{stage}.layer_norm.{leaf}", "segformer.encoder.layer_norm.{stage}.{leaf}"),
        Rename("decode_head.linear_projections.{rest*}", "decode_head.linear_c.{rest*}"),
    ),
    into=HUGGING_FACE,
)

# An encoder alone, as classifiers and headless models are saved: mit_b0.pth and the like.
ENCODERS = (
    Layout(
        name="original-encoder",
        whole=False,
        detect=("block{stage}.{block}.attn.q.{leaf}", "patch_embed{stage}.proj.{leaf}"),
        renames=tuple(
            Rename(f"{part}{stage + 1}.{{rest*}}", f"backbone.{part}{stage + 1}.{{rest*}}")
            for part in ("patch_embed", "block", "norm")
            for stage in STAGES
        ),
        into=ORIGINAL,
    ),
    Layout(
        name="hugging-face-encoder",
        whole=False,
        detect=("encoder.block.{stage}.{block}.attention.self.query.{leaf}",),
        renames=(Rename("encoder.{rest*}", "segformer.encoder.{rest*}"),),
        into=HUGGING_FACE,
    ),
    Layout(
        name="hugging-face-5-encoder",
        whole=False,
        detect=("stages.{stage}.blocks.{block}.attention.q_proj.{leaf}",),
        renames=(Rename("stages.{rest*}", "segformer.stages.{rest*}"),),
        into=HUGGING_FACE_5,
    ),
)

SEGFORMER = (HUGGING_FACE_5, HUGGING_FACE, ORIGINAL, *ENCODERS)
