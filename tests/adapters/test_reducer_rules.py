"""Rules of reducers where no fixture here goes: what is right is worked out beside each, or another library's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from vtbench import registry
from vtbench.adapters.reducers._vit import clip_tower, pixels
from vtbench.models.made_weights import fill_
from vtbench.proving.rounding import random_errors
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Reducer, TowerView


def rule(method: str, inputs: Mapping[str, Any], params: Mapping[str, Any], weights: Any = None) -> dict[str, Any]:
    rules = {name: one for _, card in registry.reducers().items() for name, one in card.rules.items()}
    with torch.inference_mode():
        return dict(rules[method](inputs, params, weights or {}))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_vwt_s_single_patches_are_counted_through_the_batch() -> None:
    """Upstream's labels of single patches are 3 * side * side and a count that runs on from image to image, so that
    with more words than that dimension some of them are words."""
    pictures, words = drawn(2, 3, 4, 4), drawn(9, 3, seed=1)
    out = rule(
        "vwt-inter",
        {"pixel_values": pictures, "embeddings": drawn(2, 17, 5, seed=2), "vocab": words},
        {"patch": 1, "thresh": 0.15, "vocab_size": 9},
    )
    count, labels = 0, []
    for picture in pictures.numpy():
        mine = []
        for patch in picture.reshape(3, -1).T:
            cosines = [patch @ w / np.linalg.norm(patch) / np.linalg.norm(w) for w in words.numpy()]
            mine.append(int(np.argmax(cosines)))
            if 1 - max(cosines) > 0.15:
                mine[-1] = 3 + count
                count += 1
        labels.append([sorted(set(mine)).index(label) for label in mine])
    assert 6 < count < 26, "some stand alone, and some of their labels are words"
    assert out["labels"].tolist() == labels
    assert out["tokens_per_image"] == [max(mine) + 1 for mine in labels]


def test_vqtoken_s_empty_cluster_keeps_its_centre_and_has_no_code() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]])
    inputs = {"tokens": tokens, "initial": torch.tensor([0, 1, 2])}
    out = rule("vqtoken-kmeans", inputs, {"k": 3, "max_iteration": 9, "tol": 1e-4})
    # The first two begin at the same place: the second of them gets nothing.
    assert out["labels"].tolist() == [[0, 0, 2]]
    assert out["centroids"].tolist() == [[1, 0], [1, 0], [0, 1]]
    assert out["codes"].tolist() == [[1, 0], [0, 0], [0, 1]]


def test_ppe_counts_clusters_and_rows_as_upstream_does() -> None:
    """A ratio above 1 is a number of clusters, that of nothing is one; 3 * ppe_k rows come out of six as of three."""
    inputs = {
        "x": drawn(1, 30, 4),
        "noise": torch.linspace(0, 1, 30)[None],
        "position_ids": torch.arange(180).view(6, 30),
    }
    params = {"sample_ratio": 7, "k": 5, "ppe_k": 4}
    out = rule("ppe", inputs, params)
    assert out["tokens"].shape == (1, 7, 4)
    assert out["position_ids"].shape == (12, 7)
    first = (out["assign"][0] == 0).nonzero().flatten().tolist()
    assert out["position_ids"][:, 0].tolist() == [
        30 * row + first[i % len(first)] for row in range(6) for i in range(2)
    ]
    assert rule("ppe", inputs, {**params, "sample_ratio": 1e-9, "ppe_k": None})["position_ids"].shape == (6, 1)


def test_sparsevlm_merges_by_differences() -> None:
    """Distances as norms of differences, which tokens far from the origin need: of 40, torch.cdist would take them by a
    product of matrices, and lose them. Everything in float64 here."""
    x, noise, k = drawn(1, 40, 3) + 900, torch.linspace(0, 1, 40)[None], 5
    own = x[0].double().numpy()
    apart = np.sqrt(((own[:, None] - own[None]) ** 2).sum(-1)) / math.sqrt(3)
    density = np.exp(-(np.sort(apart, axis=1)[:, :k] ** 2).mean(1)) + noise[0].double().numpy() * 1e-6
    scores = []
    for i in range(40):
        denser = [apart[i, j] for j in range(40) if density[j] > density[i]]
        scores.append(density[i] * min(denser, default=apart.max()))
    centres = np.argsort(-np.array(scores), kind="stable")[:k].tolist()
    cluster = [centres.index(i) if i in centres else int(np.argmin(apart[i, centres])) for i in range(40)]
    means = [own[[c == one for c in cluster]].mean(0) for one in range(k)]
    out = rule("sparsevlm-merge", {"x": x, "noise": noise}, {"cluster_num": k})["tokens"][0]
    np.testing.assert_allclose(out.numpy(), means, rtol=2e-6)


def test_btp_s_surplus_tokens_are_text_from_then_on() -> None:
    """Attention wants 86 tokens that the spatial start lacks and diversity others: the union is more than 288, while
    upstream goes on with the first 288 and never drops what is behind them."""
    grid = torch.arange(576)
    # The spatial start takes every second place; what it takes is alike, so that diversity goes elsewhere too.
    rule_out = rule("btp-spatial-init", {}, {"cases": [[24, 24, 144]]})["sel_0"]
    others = grid[~torch.isin(grid, rule_out)]
    hidden, row = drawn(1, 631, 6), torch.rand(1, 1, 631, generator=torch.Generator().manual_seed(1))
    hidden[0, 35 + rule_out] = torch.ones(6)
    row[0, 0, 35 + others[:200]] += 5
    inputs = {"hidden_4": hidden, "attn_last_4": row, "hidden_7": drawn(1, 420, 6, seed=3)}
    inputs |= {f"attn_last_{layer}": torch.rand(1, 1, 420) for layer in (7, 15, 23)}
    out = rule("btp", inputs, {"image_start": 35, "image_tokens": 576, "text_tokens": 20})
    assert len(out["kept_4"]) > 288
    assert len(out["kept_7"]) == 144
    assert set(out["kept_7"].tolist()) <= set(out["kept_4"][:288].tolist())
    behind = [*range(35), *(out["kept_4"][288:] + 35).tolist(), *range(611, 631)]
    assert out["position_ids_final"].tolist() == [behind]


def test_sync_rope_counts_sections_on_into_the_second_half() -> None:
    """Three sections of 16 frequencies and four rows: the second half of the channels has the rows 3, 0 and 1."""
    q, rows = drawn(1, 1, 2, 32), torch.tensor([[[3, 4]], [[5, 6]], [[7, 8]], [[9, 10]]])
    params = {"sections": [5, 6, 5], "theta": 100.0, "head_dim": 32}
    out = rule("echoingpixels-rope", {"q": q, "k": q, "position_ids": rows}, params)["q"]
    of = [0] * 5 + [1] * 6 + [2] * 5 + [3] * 5 + [0] * 6 + [1] * 5
    for place in range(2):
        for channel in range(32):
            angle = float(rows[of[channel], 0, place]) / 100.0 ** (2 * (channel % 16) / 32)
            other = -q[0, 0, place, channel + 16] if channel < 16 else q[0, 0, place, channel - 16]
            expected = q[0, 0, place, channel] * math.cos(angle) + other * math.sin(angle)
            assert float(out[0, 0, place, channel]) == pytest.approx(float(expected), abs=1e-5)


def test_sparsevlm_s_table_has_two_versions() -> None:
    rows = torch.rand(1, 2, 3, 576, generator=torch.Generator().manual_seed(0))
    for version, count in (("1_0", 36), ("2_0", 60)):
        params = {"retain": 128, "layer": 15, "version": version}
        assert len(rule("sparsevlm-rank", {"text_rows": rows}, params)["kept"]) == count
    with pytest.raises(VtbenchError, match="no 100 tokens at layer 15"):
        rule("sparsevlm-rank", {"text_rows": rows}, {"retain": 100, "layer": 15})


def test_shapes_that_upstream_takes_as_well() -> None:
    """A map where a list of tokens stands elsewhere, frames before tokens, nothing compressed, no second set."""
    grid = {"grid": [4, 6], "reserve": [2, 3], "norm": "ortho"}
    x = drawn(2, 3, 24, 5)
    flat = rule("fourier-vlm", {"x": x.flatten(0, 1)}, grid)["tokens"]
    assert torch.equal(rule("fourier-vlm", {"x": x}, grid)["tokens"].flatten(0, 1), flat)
    shapes = {"Dense_0.kernel": (3, 3), "Dense_0.bias": (3,), "LayerNorm_0.weight": (5,), "LayerNorm_0.bias": (5,)}
    shapes |= {"token_masking.Dense_0.kernel": (5, 7), "token_masking.Dense_0.bias": (7,)}
    shapes |= {"token_masking.Dense_1.kernel": (7, 3), "token_masking.Dense_1.bias": (3,)}
    weights = {name: drawn(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    inputs = {"tokens": drawn(2, 3, 5), "original": drawn(2, 12, 5, seed=9)}
    one = rule("tokenfuser", inputs, {"use_normalization": False}, weights)["tokens"]
    other = rule(
        "tokenfuser",
        {**inputs, "original": inputs["original"].unflatten(1, (3, 4))},
        {"use_normalization": False},
        weights,
    )["tokens"]
    assert torch.equal(one, other)
    names = ("vlm_att_key_projector", "vlm_att_val_projector", "mm_projector")
    weights = {f"{name}.weight": drawn(4, 4, seed=i) for i, name in enumerate(names)}
    inputs = {"text_query": drawn(1, 2, 4), "visual": drawn(1, 9, 4)}
    for kind in (None, "none"):
        assert rule("llama-vid", inputs, {"compress_type": kind}, weights)["tokens"].shape == (1, 10, 4)


def test_a_tower_is_that_of_transformers() -> None:
    """Another activation, norm and size than those of the fixtures here."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    for act in ("gelu", "gelu_new"):
        arch = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 24}
        arch |= {"image_size": 32, "patch_size": 8, "hidden_act": act, "layer_norm_eps": 1e-3}
        model = fill_(CLIPVisionModel(CLIPVisionConfig(**arch, attn_implementation="eager")).eval())
        with torch.inference_mode():
            words = "0.7*fill.image(32) flipped left-right"
            theirs = model(pixels(words, 32, torch.float32), output_attentions=True, output_hidden_states=True)
            ours = clip_tower({"arch": arch, "input": words}, model.state_dict())
        torch.testing.assert_close(ours.hidden[-2], theirs.hidden_states[-2][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.attention[1], theirs.attentions[1][0], rtol=1e-5, atol=1e-6)
    listed = {"cls_attention_layers": [2, 1], "features": {"shape": [1, 5, 16]}, "received_attention_1": {}}
    out = rule("tower-attention", {}, {"arch": arch, "input": words, "outputs": listed}, model.state_dict())
    torch.testing.assert_close(out["cls_attention"][1], theirs.attentions[1][0, :, 0, 1:].mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out["received_attention_1"], theirs.attentions[1][0].mean((0, 1)), rtol=1e-5, atol=1e-6)
    assert out["features"].shape == (1, 5, 16)
    for wrong in ("fill.image(64)", "noise", "cat[fill.image(32), noise]"):
        with pytest.raises(VtbenchError, match=r"only fill.image\(32\) can be made"):
            pixels(wrong, 32, torch.float32)
    with pytest.raises(VtbenchError, match="hidden_act is 'silu'"):
        clip_tower({"arch": {**arch, "hidden_act": "silu"}}, model.state_dict())


def test_a_picture_is_given_so_that_errors_can_be_put_on_what_follows() -> None:
    with random_errors(0):
        picture = pixels("cat[fill.image(8), fill.image(S)]", 8, torch.float64)
    assert torch.equal(picture, pixels("cat[fill.image(8), fill.image(8)]", 8, torch.float32).double())


def test_evit_looks_at_the_attention_only_where_it_drops() -> None:
    shapes = {"norm1.weight": (4,), "norm1.bias": (4,), "norm2.weight": (4,), "norm2.bias": (4,)}
    shapes |= {"attn.qkv.weight": (12, 4), "attn.proj.weight": (4, 4), "attn.proj.bias": (4,)}
    shapes |= {"mlp.fc1.weight": (8, 4), "mlp.fc1.bias": (8,), "mlp.fc2.weight": (4, 8), "mlp.fc2.bias": (4,)}
    weights = {name: drawn(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    params = {"heads": 2, "norm_eps": 1e-5, "keep_rate": 0.99, "fuse_token": True, "tokens": None}
    # ceil(0.99 * 6) are all of them: upstream returns nothing to choose by.
    assert set(rule("evit", {"x": drawn(1, 7, 4)}, params, weights)) == {"n_tokens", "y"}
    assert "cls_attn" in rule("evit", {"x": drawn(1, 7, 4)}, {**params, "keep_rate": 0.5}, weights)


def test_more_than_there_is_is_refused_and_not_looked_for() -> None:
    with pytest.raises(VtbenchError, match="9 positions of 5"):
        rule("btp-diversity", {"x": drawn(5, 3)}, {"k": 9, "given": None})
    params = {"k": 6, "iter_limit": 1}
    with pytest.raises(VtbenchError, match="6 clusters of 5 tokens"):
        rule("centerclip-kmedoids", {"x": drawn(1, 5, 3)}, params)


def built(name: str, **options: Any) -> Reducer:
    card = registry.reducers().get(name)
    assert card.build is not None
    return card.build(card, {**card.options, **options})


def test_centerclip_of_one_picture_is_its_rule_s_segment_of_one_frame() -> None:
    x = drawn(16, 6)
    params = {"algorithm": "kmediods++", "frames_before": 1, "frames_after": 1, "tokens_before": 16, "clusters": 5}
    sequence = torch.cat([x[:1], x])[:, None]
    for option, aggregation in (("medoid", None), ("mean", "mean")):
        expected = rule("centerclip-inter", {"x": sequence}, {**params, "aggregation": aggregation})["tokens"][1:, 0]
        reduction = built("centerclip", aggregation=option).reduce(TowerView(x), 5, seed=0)
        torch.testing.assert_close(reduction.rows_of(x), expected)
        assert reduction.kept is not None
        target = reduction.target(16)
        assert target is not None
        # A medoid is a member of its own cluster.
        assert target[reduction.kept].tolist() == [0, 1, 2, 3, 4]
    assert built("centerclip").reduce(TowerView(x), 16, seed=0).rows_of(x).equal(x)


def test_ppe_s_clusters_stand_at_a_member_s_place() -> None:
    x = drawn(20, 6)
    reduction = built("ppe").reduce(TowerView(x), 6, seed=3)
    noise = torch.rand(20, generator=torch.Generator().manual_seed(3))
    inputs = {"x": x[None], "noise": noise[None], "position_ids": torch.arange(20).expand(3, -1)}
    out = rule("ppe", inputs, {"sample_ratio": 6 / 20, "k": 5, "ppe_k": 1})
    assert torch.equal(reduction.rows_of(x), out["tokens"][0])
    assert reduction.kept is not None
    assert reduction.kept.tolist() == out["position_ids"][0].tolist()
    assert torch.equal(reduction.target(20), out["assign"][0])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [("centerclip", {"aggregation": "sum"}, "medoid or mean"), ("ppe", {"neighbours": 0}, "1")],
)
def test_options_of_no_sense_are_refused_before_anything_is_measured(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(VtbenchError, match=f"give {said}"):
        built(name, **options)
