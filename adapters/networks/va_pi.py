"""VA-pi's objective: GRPO on teacher-forced tokens, rewarded by the pixels they decode to (arXiv:2512.19680).

Lil-Shake/VA-Pi @ 3be8fce: LlamaGen/autoregressive/train/train_c2i_grpo.py, whose line numbers are given. There is no
network: what it trains is LlamaGen's, and draws as LlamaGen does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.llama import distribution
from vtbench.models.replay import Replay

SETTINGS = (
    *("temperature", "top_k", "top_p", "use_token_noise", "token_noise_prob", "reward_rec_weight"),
    *("reward_perceptual_weight", "adv_clip_max", "clip_range", "kl_coef", "use_kl_loss", "aux_ce_weight"),
    *("use_token_dropout", "token_dropout_ratio", "gradient_accumulation_steps"),
)


def noisy_context(tokens: Tensor, uniform: Tensor, ids: Tensor, probability: float) -> Tensor:
    """Tokens (B, L) -> the context (B, L - 1), each replaced by a uniform id where uniform < probability (183-199)."""
    return torch.where(uniform < min(1.0, max(0.0, probability)), ids, tokens[:, :-1])


def advantages(rewards: Tensor, generations: int) -> Tensor:
    """(reward - mean) / (std + 1e-8) among the generations of a picture, (B G,); std unbiased (671-682)."""
    groups = rewards.unflatten(0, (-1, generations))
    apart = groups - groups.mean(dim=1, keepdim=True)
    return (apart / (groups.std(dim=1, keepdim=True) + 1e-8)).flatten()


def log_probabilities(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """log p of tokens (N, L) under all of the distribution: training cuts none of it (722-727)."""
    logs = torch.log_softmax(logits / max(temperature, 1e-5), dim=-1)
    return logs.gather(-1, tokens[..., None])[..., 0]


class Objective(nn.Module):
    """config: batch, num_generations, tokens, codebook_size."""

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        self.batch, self.generations = c.integer("batch"), c.integer("num_generations", at_least=2)
        self.length, self.vocabulary = c.integer("tokens"), c.integer("codebook_size")
        c.done()

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        sizes = ("batch", "num_generations", "tokens", "codebook_size")
        stated = next(iter(fixture.runs(marks=("clip_range",)).values()), {})
        s = sampling.known({k: v for k, v in stated.items() if k not in sizes}, *SETTINGS)
        with torch.inference_mode(False), torch.enable_grad():
            return self._arrays({name: array.clone() for name, array in a.items()}, s)

    def _arrays(self, a: dict[str, Tensor], s: Mapping[str, Any]) -> dict[str, Tensor]:
        warmth, truth = float(s["temperature"]), a["gt_tokens"]
        share = float(s["token_noise_prob"]) if s["use_token_noise"] else 0.0
        p = distribution(a["old_logits"], warmth, int(s["top_k"]), float(s["top_p"]))
        tokens = torch.stack([sampling.draw(p, e) for e in a["sample_e"]], dim=1).flatten(0, 1)
        old = p.repeat_interleave(self.generations, 0).gather(-1, tokens[..., None])[..., 0].log()
        rewards = -(s["reward_rec_weight"] * a["rec_loss"] + s["reward_perceptual_weight"] * a["perceptual_loss"])
        gains, logits = advantages(rewards, self.generations), a["new_logits"].requires_grad_(True)
        current = log_probabilities(logits, tokens, warmth)
        apart = log_probabilities(a["base_logits"], tokens, warmth) - current
        divergence = apart.exp() - apart - 1
        ratio, gain = (current - old).exp(), gains.clamp(-s["adv_clip_max"], s["adv_clip_max"])[:, None]
        clipped = ratio.clamp(1 - s["clip_range"], 1 + s["clip_range"])
        each = torch.maximum(-gain * ratio, -gain * clipped)
        if s["use_kl_loss"] and s["kl_coef"] > 0:
            each = each + s["kl_coef"] * divergence
        sequence = each.mean(dim=1)
        if s["use_token_dropout"] and s["token_dropout_ratio"] > 0:
            kept = (a["drop_u"] < 1 - min(1.0, s["token_dropout_ratio"])).to(each)
            # A sequence of which nothing is left keeps its first token.
            kept[kept.sum(dim=1) == 0, 0] = 1.0
            sequence = (each * kept).sum(dim=1) / kept.sum(dim=1)
        known = truth.repeat_interleave(self.generations, 0).flatten()
        entropy = F.cross_entropy(logits.flatten(0, 1), known) if s["aux_ce_weight"] > 0 else logits.new_zeros(())
        loss = (sequence.mean() + s["aux_ce_weight"] * entropy) / s["gradient_accumulation_steps"]
        (gradient,) = torch.autograd.grad(loss, [logits])
        return {
            "noisy_inputs": noisy_context(truth, a["noise_u"], a["noise_ids"], share),
            "tokens": tokens,
            "old_log_probs": old.detach(),
            "rewards": rewards,
            "advantages": gains,
            "ratio": ratio.detach(),
            "per_token_kl": divergence.detach() if s["kl_coef"] > 0 else torch.zeros_like(ratio).detach(),
            "per_token_loss": each.detach(),
            "seq_loss": sequence.detach(),
            "aux_ce": entropy.detach().reshape(1),
            "loss": loss.detach().reshape(1),
            "logit_grad": gradient,
        }
