"""Speculative decoding: acceptance rules, plain and relaxed.

jadohu/LANTERN @ 3a56e45 models/ea_model_llamagen.py (LANTERN, arXiv:2410.03355, LANTERN++ arXiv:2502.06352) and
junhyukso/GSD @ 4216c7c scheduler/jacobi_iteration_lumina_mgpt.py (GSD; its base SJD, arXiv:2410.01699).
p is the target's distribution after guidance and filters, q the draft's, r uniform in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts.config import Config
from vtbench.models.replay import Replay


@dataclass(frozen=True)
class Relaxation:
    """LANTERN: a drafted code borrows the mass of its `k` nearest codes while the sum keeps within a bound.

    delta <= 1: the sum is at most delta (a total-variation bound); delta > 1: at most (delta - 1) p(x).
    nearest: int64 (V, V - 1), the codes by distance of their vectors, self excluded.
    """

    nearest: Tensor
    k: int
    delta: float

    def borrowed(self, p: Tensor, x: int) -> float | None:
        """Mass to add to p(x); None if not even the nearest code keeps within the bound."""
        sums = p[self.nearest[x, : self.k]].cumsum(0)
        bound = self.delta if self.delta <= 1 else (self.delta - 1) * float(p[x])
        within = int((sums <= bound).sum())
        return float(sums[within - 1]) if within else None

    def zone(self, x: int) -> Tensor:
        """The k + 1 nearest codes, all of which a rejection clears."""
        return self.nearest[x, : self.k + 1]


def nearest_codes(vectors: Tensor, count: int | None = None) -> Tensor:
    """(V, D) -> int64 (V, count): codes sorted by L2 distance, self excluded (generate_codebook.py:53-60)."""
    wide, rows = vectors.detach().double(), []
    keep = len(wide) - 1 if count is None else min(count, len(wide) - 1)
    for start in range(0, len(wide), 1024):
        distance = torch.cdist(wide[start : start + 1024], wide)
        own = torch.arange(len(distance), device=wide.device)
        distance[own, start + own] = torch.inf
        rows.append(distance.topk(keep, largest=False, sorted=True).indices)
    return torch.cat(rows)


def _normal(p: Tensor) -> Tensor:
    """p over its sum; all zeros become uniform."""
    total = p.sum()
    return p / total if float(total) > 0 else torch.full_like(p, 1 / len(p))


def verify_chain(
    drafted: Sequence[int], p: Tensor, q: Tensor, r: Iterator[float], relax: Relaxation | None = None
) -> tuple[int, Tensor]:
    """One path with draft distributions: (number accepted, distribution of the next token).

    drafted n tokens; p (n + 1, V): p[i] is the target's for drafted[i], the last follows all; q (n, V).
    Accept iff r <= p'(x) / q(x); on rejection p = max(p - q, 0), normalised (evaluate_posterior_v1, L:606-669).
    """
    for i, x in enumerate(drafted):
        target, draft = p[i].clone(), q[i].clone()
        if float(draft[x]) <= 0:
            return i, target
        more = relax.borrowed(target, x) if relax else None
        if next(r) <= (float(target[x]) + (more or 0.0)) / float(draft[x]):
            continue
        if relax is not None and more is not None:
            draft[relax.zone(x)] = 0
        return i, _normal((target - draft).clamp(min=0))
    return len(drafted), p[len(drafted)]


def verify_tree(
    paths: Tensor, p: Callable[[int, int], Tensor], r: Iterator[float], relax: Relaxation | None = None
) -> tuple[int, int, Tensor]:
    """A dynamic tree: (best path, number accepted, distribution of the next token) (L:712-787).

    paths (P, 1 + depth) with -1 for padding, column 0 the committed root; p(path, depth) the target's distribution
    after the token at that depth. The draft counts as certain: accept iff r <= p'(x); a rejected x gets p(x) = 0, with
    its zone if codes were borrowed from, and the next sibling is tested on what is left.
    """
    depth, best, adjusted = 0, 0, None
    target = p(0, 0)
    for level in range(1, paths.shape[1]):
        same = (paths[:, :level] == paths[best, :level]).all(dim=1).nonzero().flatten().tolist()
        target, tried, accepted = p(same[0], level - 1).clone(), set[int](), False
        for j in same:
            x = int(paths[j, level])
            if x < 0 or x in tried:
                continue
            tried.add(x)
            more = relax.borrowed(target, x) if relax else None
            if next(r) <= float(target[x]) + (more or 0.0):
                best, depth, accepted = j, level, True
                break
            target[x] = 0
            if relax is not None and more is not None:
                target[relax.zone(x)] = 0
            target = _normal(target)
            adjusted = target
        if not accepted:
            return best, depth, adjusted if tried and adjusted is not None else target
        adjusted = None
    return best, depth, p(best, depth)


def verify_greedy(paths: Tensor, p: Callable[[int, int], Tensor], relax: Relaxation | None = None) -> tuple[int, int]:
    """The path with the longest prefix of tokens that are the target's (relaxed) argmax: (path, length) (L:789-897)."""
    best, longest = 0, 0
    for j in range(len(paths)):
        length = 0
        for level in range(1, paths.shape[1]):
            x = int(paths[j, level])
            if x < 0:
                break
            target = p(j, level - 1).clone()
            target[x] += (relax.borrowed(target, x) or 0.0) if relax else 0.0
            if int(target.argmax()) != x:
                break
            length = level
        if length > longest:
            best, longest = j, length
    return best, longest


@dataclass
class Spent:
    """What a speculative decoding cost."""

    target: int = 0
    """Evaluations of the target."""
    draft: int = 0
    drafted: int = 0
    accepted: int = 0


def decode(
    target: Any,
    draft: Any,
    noise: Any,
    *,
    length: int,
    ahead: int,
    distribution: Callable[[Any, Tensor, int], Tensor],
    relax: Relaxation | None = None,
) -> tuple[Tensor, Spent]:
    """Tokens int64 (1, length) of one image: the draft proposes `ahead` tokens, the target tests them at once.

    target, draft: fresh sessions (start, feed, rewind) of one row; `distribution(session, logits, i)` gives the
    probabilities (V,) of token i from logits (rows, V). Without `relax` the tokens are distributed as the target's own.
    """

    def drawn(p: Tensor) -> int:
        return int(torch.argmax(p / noise.exponential(len(p))[0]))

    def as_row(new: Sequence[int], like: Tensor) -> Tensor:
        return torch.tensor([list(new)], device=like.device)

    spent, logits = Spent(), target.start()
    tokens, known_to_draft = [drawn(distribution(target, logits[:, -1], 0))], 0
    draft.start()
    while len(tokens) < length:
        count, at = min(ahead, length - len(tokens) - 1), len(tokens)
        proposed, chances = list[int](), list[Tensor]()
        for _ in range(count):
            every = tokens + proposed
            ahead_logits = draft.feed(as_row(every[known_to_draft:], logits))[:, -1]
            known_to_draft = len(every)
            chances.append(distribution(draft, ahead_logits, len(every)))
            proposed.append(drawn(chances[-1]))
        logits = target.feed(as_row([tokens[-1], *proposed], logits))
        p = torch.stack([distribution(target, logits[:, i], at + i) for i in range(count + 1)])
        tests = iter(noise.uniform(max(count, 1))[0].tolist())
        accepted, after = verify_chain(proposed, p, torch.stack(chances) if chances else p[:0], tests, relax)
        tokens += [*proposed[:accepted], drawn(after)]
        spent.drafted, spent.accepted = spent.drafted + count, spent.accepted + accepted
        # The last token is fed with the next proposals.
        target.rewind(len(tokens) - 1)
        known_to_draft = min(known_to_draft, len(tokens) - 1)
        draft.rewind(known_to_draft)
    spent.target, spent.draft = target.evaluations, draft.evaluations
    return torch.tensor([tokens]), spent


@dataclass(frozen=True)
class Grouping:
    """GSD: the test compares masses of groups of codes: `window` ranks below x and window - 1 above, alike in
    probability and in code (G:305-337)."""

    sq_distance: Tensor
    window: int = 7
    p_threshold: float = 0.15
    d_threshold: float = 0.5
    table: int = 10000
    """Codes up to this number have distances (embedding rows 0..9999)."""

    def ratio(self, logits: Tensor, p: Tensor, q: Tensor, x: int) -> float:
        """Mass of the group under p over its mass under q; NaN for 0/0, infinity for P/0."""
        order = logits.argsort()
        rank = int((order == x).nonzero())
        # A negative start counts from the end, as in upstream's slice: empty, unless there are fewer than 14 codes.
        group = order[rank - self.window : rank + self.window]
        greatest = int(group.max()) if len(group) else self.table
        # Upstream raises for an empty group, or a code that the table should have, and then takes p / q (G:335-337).
        if not len(group) or len(self.sq_distance) <= greatest <= self.table:
            return float(p[x] / q[x])
        group = group[(p[group] - p[x]).abs() < self.p_threshold]
        if greatest <= self.table:
            group = group[self.sq_distance[x, group] < self.d_threshold]
        return float(p[group].sum() / q[group].sum())


def verify_jacobi(
    drafted: Tensor, target: Tensor, q: Tensor, logits: Tensor, r: Tensor, noise: Tensor, group: Grouping | None = None
) -> tuple[int, Tensor]:
    """Jacobi decoding of L tokens: (index of the first rejected, or L; the target's tokens, corrected).

    drafted, target (L,); q, logits, r (L, V); noise (V,). Draft i is tested against the target's distribution at
    i - 1: accept iff r[i, x] < min(1, ratio); target i - 1 becomes x. At a rejection it is drawn from max(p - q, 0).
    """
    tokens, p = target.clone(), torch.softmax(logits, dim=-1)
    for i in range(1, len(drafted)):
        x, before = int(drafted[i]), p[i - 1]
        ratio = group.ratio(logits[i - 1], before, q[i], x) if group else float(before[x] / q[i, x])
        # A NaN ratio (0/0) compares false: rejected.
        if ratio == ratio and float(r[i, x]) < min(1.0, ratio):
            tokens[i - 1] = x
            continue
        rest = (before - q[i]).clamp(min=0)
        tokens[i - 1] = torch.argmax(rest / rest.sum() / noise)
        return i, tokens
    return len(drafted), tokens


class AcceptanceRules(nn.Module):
    """The rules without a network, as their fixtures have them.

    config: LANTERN's vocab, code_dim, k, trials; or GSD's vocab, code_dim, length, trials, rank_window, p_thr, d_thr.
    """

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        self.trials = c.integer("trials")
        c.integer("vocab")
        c.integer("code_dim")
        self.k = c.any("k")
        if self.k is None:
            c.integer("length")
            self.thresholds = (c.integer("rank_window"), c.number("p_thr"), c.number("d_thr"))
        c.done()

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        return self._gsd(fixture) if self.k is None else self._lantern(fixture)

    def _gsd(self, fixture: Replay) -> dict[str, Tensor]:
        a = fixture.arrays
        window, p_threshold, d_threshold = self.thresholds
        group = Grouping(a["sq_dist"], window, p_threshold, d_threshold)
        out = {}
        names = ("draft_tokens", "target_tokens", "draft_prob", "target_logits", "r", "exp_noise")
        trials = list(zip(*(a[n] for n in names), strict=True))
        for rule, used in (("gsd", group), ("sjd", None)):
            verified = [verify_jacobi(x, y, q, logits, r, noise, used) for x, y, q, logits, r, noise in trials]
            out[f"{rule}_first_rejected"] = torch.tensor([i for i, _ in verified])
            out[f"{rule}_tokens"] = torch.stack([tokens for _, tokens in verified])
        return out

    def _lantern(self, fixture: Replay) -> dict[str, Tensor]:
        a, out = fixture.arrays, dict[str, Tensor]()
        nodes, ids = torch.softmax(a["node_logits"], dim=-1), a["tree_node_ids"]
        chain = torch.softmax(a["chain_logits"], dim=-1)
        rules = dict.fromkeys(n.removesuffix("_accept") for n in fixture.settings if n.endswith("_accept"))
        for rule in rules:
            stated = fixture.settings.get(f"{rule}_best") or fixture.settings[f"{rule}_accept"]
            relax = None
            if "lantern_delta" in stated:
                relax = Relaxation(a["nearest"], int(stated.get("lantern_k", self.k)), float(stated["lantern_delta"]))
            rows: dict[str, list[Any]] = {"best": [], "accept": [], "p": []}
            for t in range(self.trials):
                r = iter(a["r"][t].tolist())

                def p(path: int, depth: int, t: int = t) -> Tensor:
                    return nodes[t, ids[path, depth]]

                paths = a["tree_candidates"][t]
                if rule.startswith("chain"):
                    drafted = a["chain_tokens"][t, 1:].tolist()
                    accept, after = verify_chain(drafted, chain[t], a["chain_draft_prob"][t], r, relax)
                    best = 0
                elif rule.startswith("greedy"):
                    best, accept = verify_greedy(paths, p, relax)
                    after = p(best, accept)
                else:
                    best, accept, after = verify_tree(paths, p, r, relax)
                for key, value in (("best", best), ("accept", accept), ("p", after)):
                    rows[key].append(value)
            out[f"{rule}_best"], out[f"{rule}_accept"] = torch.tensor(rows["best"]), torch.tensor(rows["accept"])
            out[f"{rule}_p"] = torch.stack(rows["p"])
        return out
