"""Parts of networks against numbers worked out by hand, other people's formulas, and slow twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from steps import step_of
from strategies import PLANE
from torch import Tensor, distributions

from wtl.core.task import FamilySpec, ObservationLayout
from wtl.data.segments import ContextBatch, Segments
from wtl.methods.nn.acting import ActingConfig, MixturePolicy
from wtl.methods.nn.attention import RelativeAttentionBlock, SelfAttentionBlock, sinusoids
from wtl.methods.nn.context_network import ContextNetwork, GoalLocaliser, NetworkConfig
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mixture import Mixture, MixtureHead
from wtl.methods.nn.mlp import MlpNetwork

SPEC = FamilySpec("alpha", PLANE, 2, 10, 2, True, 1.0)
SMALL = NetworkConfig(width=16, heads=2, encoder_layers=2, reader_layers=2, components=3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def numbers(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


# The mixture.


def test_densities_worked_out_by_hand() -> None:
    one = Mixture(numbers(0.0), numbers([0.0]), numbers([0.0]))
    assert one.log_probability(numbers(0.0)).item() == pytest.approx(-0.9189385)  # -log(2 pi) / 2
    two = Mixture(numbers(0.0, 0.0), numbers([1.0], [-1.0]), numbers([0.0], [0.0]))
    assert two.log_probability(numbers(0.0)).item() == pytest.approx(-1.4189385)  # ... - 1 / 2
    narrow = Mixture(numbers(0.0), numbers([0.0]), numbers([math.log(0.5)]))
    assert narrow.log_probability(numbers(0.5)).item() == pytest.approx(-0.9189385 - 0.5 + math.log(2))
    heavy = Mixture(numbers(math.log(3.0), 0.0), numbers([0.0], [0.0]), numbers([0.0], [0.0]))
    assert heavy.log_probability(numbers(0.0)).item() == pytest.approx(-0.9189385)  # weights sum to one


def test_densities_are_those_of_torch_distributions() -> None:
    mixture = Mixture(torch.randn(4, 6, 3), torch.randn(4, 6, 3, 2), torch.randn(4, 6, 3, 2) / 2)
    normal = distributions.Independent(distributions.Normal(mixture.means_MA, mixture.log_deviations_MA.exp()), 1)
    expected = distributions.MixtureSameFamily(distributions.Categorical(logits=mixture.logits_M), normal)
    actions = torch.randn(4, 6, 2)
    torch.testing.assert_close(mixture.log_probability(actions), expected.log_prob(actions))


def test_the_mean_of_a_component() -> None:
    mixture = Mixture(torch.zeros(2, 3), torch.arange(12.0).view(2, 3, 2), torch.zeros(2, 3, 2))
    assert mixture.component_mean(torch.tensor([2, 0])).tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_the_head_stays_where_actions_are() -> None:
    mixture = MixtureHead(8, 5, 2)(100 * torch.randn(50, 8))
    assert mixture.logits_M.shape == (50, 5) and mixture.means_MA.shape == (50, 5, 2)
    assert mixture.means_MA.abs().max() <= 1.05
    deviations = mixture.log_deviations_MA.exp()
    assert deviations.min() >= 0.05 * 0.999 and deviations.max() <= 1.001


# Attention.


def a_cached_context(frames: int = 7, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Context (E = 16), views (V = 4, D = 2) and payloads (C = 3)."""
    return torch.randn(count, frames, 16), torch.randn(count, frames, 4, 2), torch.randn(count, frames, 3)


def test_what_is_cached_once_equals_what_is_computed_anew() -> None:
    block = RelativeAttentionBlock(16, 2, vectors=4, dimensions=2, payload=3)
    context, queries, views = a_cached_context(), torch.randn(3, 5, 16), torch.randn(3, 5, 4, 2)
    cache = block.keys_and_values(*context)
    together = block(queries, views, cache)
    for q in range(5):
        alone = block(queries[:, q : q + 1], views[:, q : q + 1], block.keys_and_values(*context))
        torch.testing.assert_close(alone, together[:, q : q + 1])
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(block(queries[rows], views[rows], tuple(part[rows] for part in cache)), together[rows])


def test_attention_by_distance_is_what_its_docstring_says() -> None:
    """A slow twin: scores from contents and from weighted squared distances, one pair after another."""
    block = RelativeAttentionBlock(16, 1, vectors=4, dimensions=2, payload=3)
    x, views, payload = a_cached_context(frames=6, count=1)
    query, seen = torch.randn(1, 1, 16), torch.randn(1, 1, 4, 2)
    k, v = block.kv(x).chunk(2, dim=-1)
    metric = block.metric(block.norm(query)).exp()[0, 0]
    scores = []
    for frame in range(6):
        content = block.q(block.norm(query))[0, 0] @ k[0, frame] / math.sqrt(16)
        # The query's own squared length is the same for all frames: the softmax does not see it.
        scores.append(content - (metric * (seen[0, 0] - views[0, frame]).square().sum(-1)).sum())
    weights = torch.stack(scores).softmax(0)
    away = sum(w * views[0, i] for i, w in enumerate(weights)) - seen[0, 0]
    chosen = (metric[:, None] * away).sum(0) / metric.sum()
    found = torch.cat([weights @ v[0], away.flatten(), chosen, weights @ payload[0]])
    expected = query + block.out(found)
    expected = expected + block.feed_forward(expected)
    torch.testing.assert_close(
        block(query, seen, block.keys_and_values(x, views, payload)), expected, atol=1e-5, rtol=1e-4
    )


def test_self_attention_knows_no_order_and_no_neighbours() -> None:
    block, x, order = SelfAttentionBlock(16, 2), torch.randn(2, 6, 16), torch.randperm(6)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])
    torch.testing.assert_close(block(x[:1]), block(x)[:1])


def test_the_embedding_of_time() -> None:
    table = sinusoids(3, 4)
    angles = [[0.0, 0.0], [1.0, 0.1], [2.0, 0.2]]  # frequencies 1 and 100 ** -0.5
    expected = [[f(a) for a in row for f in (math.sin, math.cos)] for row in angles]
    torch.testing.assert_close(table, torch.tensor(expected))


# Features.

LINE = ObservationLayout(size=5, dimensions=2, points=(0, 2), scalars=(4,))


def test_features_worked_out_by_hand() -> None:
    features = ObservationFeatures(LINE)
    seen = numbers([1, 0, 2, 2, 5], [3, 0, 4, 4, 9])
    features.fit(seen)
    # First point: mean (2, 0), deviations 1 and 0, one deviation for both: sqrt(1 / 2). Second point: 1 and 1.
    # From the first to the second: (1, 2) and (1, 4): deviations 0 and 1, so sqrt(1 / 2). Scalar: mean 7, deviation 2.
    root = math.sqrt(2)
    torch.testing.assert_close(features(seen), numbers([-root, 0, -1, -1, 0, -root, -1], [root, 0, 1, 1, 0, root, 1]))
    assert features.size == 7
    assert features(numbers([1e6, 0, -1e6, 0, 0])).abs().max() == 5.0  # off the map, and it does not drown the rest


def test_features_of_absent_points_are_zero() -> None:
    features = ObservationFeatures(PLANE)
    features.fit(torch.randn(20, PLANE.size) + 3)
    seen = torch.randn(4, PLANE.size) + 3
    seen[:, 2:4] = 0.0  # the second of three points
    out = features(seen)
    pairs = [(0, 1), (0, 2), (1, 2)]
    vectors = out[:, :12].unflatten(-1, (6, 2))
    gone = [1] + [3 + i for i, pair in enumerate(pairs) if 1 in pair]
    assert not vectors[:, gone].any() and vectors[:, [i for i in range(6) if i not in gone]].all()


def test_absent_points_do_not_count_in_the_normalisation() -> None:
    seen = torch.randn(50, PLANE.size) + 3
    half = seen.clone()
    half[::2, 2:4] = 0.0
    features, expected = ObservationFeatures(PLANE), ObservationFeatures(PLANE)
    features.fit(half)
    expected.fit(seen[1::2])
    torch.testing.assert_close(features.mean[2:4], expected.mean[2:4])
    torch.testing.assert_close(features.deviation[2:4], expected.deviation[2:4])


def test_a_view_worked_out_by_hand() -> None:
    features = ObservationFeatures(LINE)
    features.deviation.fill_(2.0)
    seen, start = numbers([1.0, 1.0, 2.0, 3.0, 0.0]), numbers([1.0, 0.0, 2.0, 1.0, 0.0])
    view = features.view(seen, start, numbers([3.0, 1.0]))
    assert view.shape == (1, features.view_vectors, 2)
    expected = [
        [1, 1], [2, 3],  # from the world
        [1, 2],  # from the first point to the second
        [0, 1], [-1, 0], [1, 3], [0, 2],  # from where the first and the second were at the start
        [-2, 0], [-1, 2],  # from the goal
    ]  # fmt: skip
    torch.testing.assert_close(view[0], torch.tensor(expected) / 2.0)


def test_a_view_has_no_vectors_to_absent_points() -> None:
    features = ObservationFeatures(LINE)
    seen = numbers([1.0, 1.0, 0.0, 0.0, 0.0])
    view = features.view(seen, seen, numbers([3.0, 1.0]))[0]
    assert view.any(-1).tolist() == [True, False, False, False, False, False, False, True, False]


# The context network.


def some_segments(count: int = 3, segments: int = 1) -> Segments:
    frames = (torch.randn(count, segments, 5, n) for n in (PLANE.size, 2))
    outcome = (torch.rand(count, segments, 5) for _ in range(3))
    return Segments(*frames, *outcome, torch.zeros(count, segments))


def a_context() -> ContextBatch:
    """A demonstration and a trial of three tasks."""
    return ContextBatch(some_segments(), some_segments())


def shifted(observations: Tensor, shift: Tensor) -> Tensor:
    moved = observations.clone()
    for point in PLANE.points:
        moved[..., point : point + 2] += shift
    return moved


START = torch.randn(3, PLANE.size, generator=torch.Generator().manual_seed(1))


def test_a_context_encoded_once_answers_each_query_by_itself() -> None:
    network = ContextNetwork(SMALL, SPEC).eval()
    context, queries = a_context(), torch.randn(3, 4, PLANE.size)
    together = network.answer(network.encode(context, START), queries)
    for q in range(4):
        alone = network.answer(network.encode(context, START), queries[:, q : q + 1])
        torch.testing.assert_close(alone.means_MA[:, 0], together.means_MA[:, q])
        torch.testing.assert_close(alone.logits_M[:, 0], together.logits_M[:, q])


def test_encodings_are_of_their_own_context() -> None:
    network = ContextNetwork(SMALL, SPEC).eval()
    context, queries = a_context(), torch.randn(3, 4, PLANE.size)
    together, rows = network.answer(network.encode(context, START), queries), torch.tensor([2, 0])
    chosen = network.answer(network.encode(context, START).rows(rows), queries[rows])
    torch.testing.assert_close(chosen.means_MA, together.means_MA[rows])
    first, second = (network.encode(context.rows(r), START[r]) for r in (torch.tensor([0, 1]), torch.tensor([2])))
    torch.testing.assert_close(network.answer(first.joined(second), queries).means_MA, together.means_MA)


def test_a_localiser_without_training_is_in_the_middle_of_what_is_there() -> None:
    localiser = GoalLocaliser(16, 3, 2)
    for parameter in localiser.head[-1].parameters():
        torch.nn.init.zeros_(parameter)
    positions, present = torch.randn(2, 5, 3, 2), torch.ones(2, 5, 3, dtype=torch.bool)
    present[1, :, 2] = False
    found = localiser(torch.randn(2, 5, 16), positions, present, torch.tensor(1.0))
    torch.testing.assert_close(found[0], positions[0].flatten(0, 1).mean(0))
    torch.testing.assert_close(found[1], positions[1, :, :2].flatten(0, 1).mean(0))


def test_estimates_move_along_when_everything_is_shifted() -> None:
    """Up to normalisation: the mean of the data moves along."""
    network = ContextNetwork(SMALL, SPEC).eval()
    network.features.fit(torch.randn(40, PLANE.size))
    context, shift = a_context(), numbers(0.4, -0.7)
    before = network.encode(context, START)
    network.features.mean[: 2 * len(PLANE.points)] += shift.repeat(len(PLANE.points))
    kinds = {name: getattr(context, name) for name in ("demonstrations", "trials")}
    moved = ContextBatch(
        **{n: replace(kind, observations_BSFO=shifted(kind.observations_BSFO, shift)) for n, kind in kinds.items()}
    )
    after = network.encode(moved, shifted(START, shift))
    torch.testing.assert_close(after.goal_BG, before.goal_BG + shift, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.demonstrated_goal_BG, before.demonstrated_goal_BG + shift, atol=1e-5, rtol=1e-5)


def test_what_the_demonstration_aimed_at_is_read_from_it_alone() -> None:
    network, context = ContextNetwork(SMALL, SPEC).eval(), a_context()
    assert network.encode(context, START).demonstrated_goal_BG.any(-1).all()
    assert not network.encode(replace(context, demonstrations=None), START).demonstrated_goal_BG.any()


@pytest.mark.parametrize("kind", ["demonstrations", "trials"])
def test_outcomes_and_their_absence_are_read(kind: str) -> None:
    network, context = ContextNetwork(SMALL, SPEC).eval(), a_context()
    before = network.encode(context, START).goal_BG
    for name, value in (("rewards_BSF", torch.rand(3, 1, 5)), ("masked_BS", torch.ones(3, 1))):
        other = replace(context, **{kind: replace(getattr(context, kind), **{name: value})})
        assert (network.encode(other, START).goal_BG != before).all(), name


def test_a_trial_is_not_a_demonstration() -> None:
    network, segments = ContextNetwork(SMALL, SPEC).eval(), some_segments()
    shown, tried = ContextBatch(segments, None), ContextBatch(None, segments)
    assert (network.encode(tried, START).goal_BG != network.encode(shown, START).goal_BG).all()


def test_several_demonstrations_are_read_as_such() -> None:
    """Segments are named and not positional: a second demonstration is not the first trial."""
    network = ContextNetwork(SMALL, SPEC).eval()
    one, two = some_segments(), some_segments()
    both = network.encode(ContextBatch(one.joined(two), None), START)
    turned = network.encode(ContextBatch(two.joined(one), None), START)
    torch.testing.assert_close(both.goal_BG, turned.goal_BG, atol=1e-5, rtol=1e-5)  # a set
    assert (both.goal_BG != network.encode(ContextBatch(one, two), START).goal_BG).all()


def test_a_context_with_nothing_to_read_is_refused() -> None:
    with pytest.raises(ValueError, match="expected contexts with demonstrations or trials, got contexts with neither"):
        ContextNetwork(SMALL, SPEC).encode(ContextBatch(None, None), START)


def test_the_error_of_a_goal() -> None:
    network = ContextNetwork(SMALL, SPEC)
    network.features.deviation.fill_(0.5)
    estimate, goal = numbers([0.0, 0.0]), numbers([0.01, 1.0])
    # In deviations 0.02 and 2: smooth L1 with beta 0.1 is 0.02 ** 2 / 0.2 and 2 - 0.05.
    assert network.goal_error(estimate, goal).item() == pytest.approx((0.002 + 1.95) / 2, rel=1e-5)


def test_a_goal_must_be_a_position() -> None:
    with pytest.raises(ValueError, match="a goal must be a position of 2 numbers, got 3"):
        ContextNetwork(SMALL, FamilySpec("alpha", PLANE, 2, 10, 3, True, 1.0))


def test_the_network_without_context() -> None:
    mixture = MlpNetwork(SPEC, 8, 3)(torch.randn(4, 6, PLANE.size))
    assert mixture.means_MA.shape == (4, 6, 3, 2)


# From mixtures to actions.


def fixed(*weights: float) -> Callable[[Any, Any], Mixture]:
    """An answer whose component i has the mean i."""

    def answer(rows: Tensor, observations: Tensor) -> Mixture:
        count = len(rows)
        means = torch.arange(len(weights), dtype=torch.float32)[:, None].expand(count, -1, 1)
        return Mixture(torch.log(torch.tensor(weights)).expand(count, -1), means, torch.zeros(count, len(weights), 1))

    return answer


def test_a_held_component_is_kept_over_the_episode_and_drawn_by_weight() -> None:
    count = 400
    policy = MixturePolicy(ActingConfig("held"), fixed(0.1, 0.6, 0.3), range(count))
    first = policy.act(step_of(np.zeros((count, 1))))
    for _ in range(5):
        np.testing.assert_array_equal(policy.act(step_of(np.zeros((count, 1)))), first)
    shares = [(first == i).mean() for i in range(3)]
    np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=0.08)
    some = np.array([7, 3])
    np.testing.assert_array_equal(policy.act(step_of(np.zeros((2, 1)), some)), first[some])
    again = MixturePolicy(ActingConfig("held"), fixed(0.1, 0.6, 0.3), [7])
    np.testing.assert_array_equal(again.act(step_of(np.zeros((1, 1)))), first[[7]])  # its seed, not its row


def test_the_likeliest_component_needs_no_luck() -> None:
    policy = MixturePolicy(ActingConfig("likeliest"), fixed(0.1, 0.6, 0.3), range(50))
    assert (policy.act(step_of(np.zeros((50, 1)))) == 1.0).all()


def test_a_held_hypothesis_is_dropped_after_a_success() -> None:
    solved = [i % 2 == 0 for i in range(50)]
    policy = MixturePolicy(ActingConfig("held"), fixed(0.3, 0.4, 0.3), range(50), solved)
    chosen = policy.act(step_of(np.zeros((50, 1))))[:, 0]
    assert (chosen[::2] == 1.0).all() and set(chosen[1::2]) == {0.0, 1.0, 2.0}
    some = np.array([3, 2])
    np.testing.assert_array_equal(policy.act(step_of(np.zeros((2, 1)), some))[:, 0], chosen[some])
