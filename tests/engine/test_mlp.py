"""Small perceptrons: their gradient, their bounded steps, and that each learns what it would learn alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine import StateError
from mixllm_engine.prediction.mlp import Network, Stack, learn, relearn, train
from mixllm_engine.types import Label, Matrix, Vector

D = 5


def contexts(rows: int, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.ones((rows, 1)), rng.normal(size=(rows, D - 1))], axis=1)


def fresh(seed: int = 0, width: int = 8, constant: float = 0.6) -> Network:
    return Network.fresh(D, width, constant, np.random.default_rng(seed))


def experienced(seed: int = 0, width: int = 8) -> Network:
    rng = np.random.default_rng(seed)
    return Network(hidden=rng.normal(size=(width, D)), output=rng.normal(size=width + 1), count=3.0)


def same(one: Network, other: Network) -> bool:
    arrays = [(one.hidden, other.hidden), (one.output, other.output)]
    return one.count == other.count and all(a.tobytes() == b.tobytes() for a, b in arrays)


def trained(networks: list[Network], rows: Matrix, targets: Matrix, **settings: float) -> list[Network]:
    terms = {"passes": 3, "shrinkage": 1.0, "seed": 0, **settings}
    return train(networks, rows, targets, np.full(len(networks), 0.05), **terms)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3))
def test_the_gradient_is_the_one_of_finite_differences(seed: int, rows: int, networks: int) -> None:
    stack = Stack([experienced(seed + k) for k in range(networks)])
    x, targets, step = contexts(rows, seed), np.random.default_rng(seed).normal(size=(networks, rows)), 1e-6
    hidden, output = stack.gradient(x, targets - stack.predict(x).T)
    rng = np.random.default_rng(seed)
    for parameter, gradient in ((stack.hidden, hidden), (stack.output, output)):
        for _ in range(6):
            place = tuple(int(rng.integers(size)) for size in parameter.shape)
            kept, losses = parameter[place], []
            for value in (kept + step, kept - step):
                parameter[place] = value
                losses.append(((targets - stack.predict(x).T) ** 2).sum() / 2.0)
            parameter[place] = kept
            # Where a unit turns on between the two points there is no derivative; a second-order error is allowed.
            assert gradient[place] == pytest.approx(-(losses[0] - losses[1]) / (2 * step), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_steepness_is_the_squared_length_of_the_gradient(seed: int) -> None:
    stack, x = Stack([experienced(seed)]), contexts(1, seed)
    hidden, output = stack.gradient(x, np.ones((1, 1)))
    assert stack.steepness(x)[0, 0] == pytest.approx((hidden**2).sum() + (output**2).sum())


def test_a_fresh_network_says_its_constant_everywhere_and_takes_its_first_step_as_by_hand() -> None:
    network, x = fresh(), contexts(1)[0]
    assert Stack([network]).predict(contexts(9)).tolist() == [[0.6]] * 9
    active = np.maximum(network.hidden @ x, 0.0)
    after = learn(dataclasses.replace(network, count=1e9), x, Label(1.0, 1.0), rate=0.01, strength=2.0)
    assert np.allclose(after.output, network.output + 0.01 * 0.4 * np.append(active, 1.0))
    assert after.hidden.tobytes() == network.hidden.tobytes()  # nothing flows through output weights of zero
    assert after.count == 1e9 + 1


def test_the_first_labels_count_as_in_a_running_mean_and_later_ones_as_eta_says() -> None:
    network, x = fresh(constant=0.0), contexts(1)[0]
    for number in range(1, 6):
        before = network.value(x)
        network = learn(network, x, Label(1.0, 1.0), rate=1e-6, strength=2.0)
        # to first order; the product of the changes of both layers comes on top
        assert (network.value(x) - before) / (1.0 - before) == pytest.approx(1.0 / (number + 2.0), abs=0.08)
    late = dataclasses.replace(network, count=1e6)
    steepness = Stack([late]).steepness(x[None, :])[0, 0]
    change = learn(late, x, Label(1.0, 1.0), rate=0.01, strength=2.0).value(x) - late.value(x)
    assert change == pytest.approx(0.01 * steepness * (1.0 - late.value(x)), rel=0.05)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_contradictory_labels_at_any_rate_leave_the_output_among_them(rate: float) -> None:
    network, rows = fresh(), contexts(3000) * 3.0
    for number, x in enumerate(rows):
        network = learn(network, x, Label(float(number % 2), 1.0), rate=rate, strength=0.001)
    network.check(D)
    values = Stack([network]).predict(rows[:200])
    assert np.abs(values).max() < 10.0


def test_a_changed_label_is_one_step_with_the_change() -> None:
    network, x = experienced(), contexts(1)[0]
    hidden, output = Stack([network]).gradient(x[None, :], np.array([[-0.7]]))
    found = relearn(network, x, Label(0.9, 1.0), Label(0.2, 1.0), rate=0.001)
    assert np.allclose(found.hidden, network.hidden + 0.001 * hidden[0])
    assert np.allclose(found.output, network.output + 0.001 * output[0])
    assert found.count == network.count


def test_a_label_teaches_as_much_as_it_weighs() -> None:
    network, x = experienced(), contexts(1)[0]
    target = network.value(x) + 0.01  # so small a step that it is nearly linear
    light = learn(network, x, Label(target, 0.25), rate=0.001, strength=2.0)
    full = learn(network, x, Label(target, 1.0), rate=0.001, strength=2.0)
    assert light.value(x) - network.value(x) == pytest.approx(0.25 * (full.value(x) - network.value(x)), rel=0.01)
    grown = relearn(light, x, Label(target, 0.25), Label(target, 1.0), rate=0.001)
    assert network.value(x) < light.value(x) < grown.value(x)
    assert grown.count == light.count


def test_a_network_learns_in_company_bit_by_bit_what_it_learns_alone() -> None:
    rows, targets = contexts(50), np.random.default_rng(1).random((50, 4))
    targets[::3, 1] = np.nan
    networks = [fresh(seed) for seed in range(4)]
    together = trained(networks, rows, targets)
    for k in range(4):
        assert same(trained([networks[k]], rows, targets[:, [k]])[0], together[k])
    turned = trained(networks[::-1], rows, targets[:, ::-1])
    assert all(same(one, other) for one, other in zip(turned[::-1], together, strict=True))
    assert [network.count for network in together] == [50.0, 33.0, 50.0, 50.0]


def test_training_finds_a_function_that_no_line_fits() -> None:
    rows = contexts(400)
    rows[:, 1:] /= 2.0
    targets: Vector = np.abs(rows[:, 1])
    network = trained([fresh(width=32)], rows, targets[:, None], passes=60, shrinkage=0.0)[0]
    probes = contexts(200, seed=5)
    probes[:, 1:] /= 2.0
    error = ((Stack([network]).predict(probes)[:, 0] - np.abs(probes[:, 1])) ** 2).mean()
    assert error < 0.2 * targets.var()


def test_shrinkage_keeps_a_network_that_saw_nothing_but_noise_near_the_mean() -> None:
    rows, noise = contexts(110), np.random.default_rng(2).random((110, 1))
    spreads = [
        Stack(trained([fresh(width=32)], rows, noise, passes=40, shrinkage=rho)).predict(contexts(300, seed=7)).std()
        for rho in (0.0, 30.0)
    ]
    assert spreads[1] < 0.5 * spreads[0]


def test_narrower_networks_stand_beside_wider_ones() -> None:
    narrow, wide, x = experienced(1, width=3), experienced(2, width=9), contexts(4)
    stack = Stack([narrow, wide])
    assert np.allclose(stack.predict(x)[:, 0], Stack([narrow]).predict(x)[:, 0], atol=1e-12)
    stack.put(1, narrow)
    assert np.allclose(stack.predict(x[0]), narrow.value(x[0]), atol=1e-12)


def damaged(**changes: Vector | Matrix | float) -> Network:
    return dataclasses.replace(experienced(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (damaged(hidden=np.zeros((8, D + 1))), "another shape than the 5 features need"),
        (damaged(hidden=np.zeros(D)), "another shape than the 5 features need"),
        (damaged(output=np.zeros(8)), "do not fit each other"),
        (damaged(output=np.full(9, np.nan)), "not finite"),
        (damaged(count=-1.0), "not finite"),
    ],
)
def test_a_damaged_network_is_refused(network: Network, message: str) -> None:
    with pytest.raises(StateError, match=message):
        network.check(D)
