"""Stochastic policies whose log-probabilities have gradients: a network, and a law of actions.

An action is sampled from outputs of a network of fully connected layers. What is recorded
and scored is the sampled *choice*, before clipping and casting make it an action: the
score of a clipped number would be that of another one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.random import Generator

from distes.errors import UsageError
from distes.policies.base import Act, Choose, PolicySpec, Sampler
from distes.policies.network import Activation, NetworkPolicy, refuse_layers
from distes.policies.spaces import ActionHead, encoder
from distes.types import Array, FloatArray


@runtime_checkable
class StochasticPolicy(Sampler, Protocol):
    """A policy that samples, and can say how its choices depend on its parameters."""

    def log_prob(
        self, parameters: FloatArray, observations: FloatArray, choices: Array
    ) -> FloatArray:
        """Log π(c_t | x_t), (T,).

        Args:
            parameters: (d,).
            observations: (T, k) encoded.
            choices: (T,) or (T, a).
        """

    def log_prob_grad(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
    ) -> FloatArray:
        """Σ_t w_t ∇ log π(c_t | x_t), (d,).

        Args:
            parameters: (d,).
            observations: (T, k) encoded.
            choices: (T,) or (T, a).
            weights: w, (T,).
        """


@dataclass(frozen=True, eq=False)
class ScoreTotals:
    """Sums over the steps of an episode.

    Attributes:
        scores: (w, d) Σ_t w_t ∇ log π(c_t | x_t), for each row of weights.
        squares: (w, d) Σ_t w_t (∇ log π(c_t | x_t))², element by element; None unless asked.
        entropy: (d,) Σ_t ∇ H(π(· | x_t)); None unless asked.
    """

    scores: FloatArray
    squares: FloatArray | None = None
    entropy: FloatArray | None = None


@runtime_checkable
class TotalledScores(StochasticPolicy, Protocol):
    """A policy that adds up in one pass whatever a gradient needs of an episode."""

    @property
    def entropy_varies(self) -> bool:
        """Whether the entropy of its choices depends on the parameters."""

    def score_totals(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
        *,
        squares: bool = False,
        entropy: bool = False,
    ) -> ScoreTotals:
        """Add up scores, weighted in several ways.

        Args:
            parameters: (d,).
            observations: (T, k) encoded.
            choices: (T,) or (T, a).
            weights: (w, T), each row a weighting of the steps.
            squares: whether to add up the scores' squares, too.
            entropy: whether to add up the entropy's gradients, too.
        """


@dataclass(frozen=True)
class StochasticSpec(PolicySpec):
    """Settings that stochastic policies with a network share.

    Attributes:
        hidden: sizes of the hidden layers; none makes it linear.
        activation: after each hidden layer.
        bias: add b in each layer.
        scale_observations: map finite bounds of observations to -1 and 1.
        output_gain: factor on the last of several layers' initial weights, >= 0; with 0 all
            actions begin alike, which explores more where nothing is known yet.
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "tanh"
    bias: bool = True
    scale_observations: bool = False
    output_gain: float = 1.0

    def __post_init__(self) -> None:
        """Refuse layers without units, unknown activations, a gain that is none."""
        refuse_layers(self.hidden, self.activation)
        if not 0 <= self.output_gain < math.inf:
            raise UsageError(f"output_gain {self.output_gain} is not a finite number >= 0")

    def network(self, observation_space: gym.Space[Any], num_outputs: int) -> NetworkPolicy:
        """Build the network that gives so many outputs.

        Raises:
            UsageError: observations are not supported.
        """
        return NetworkPolicy(
            encoder(observation_space, self.scale_observations),
            Outputs(num_outputs),
            hidden=tuple(self.hidden),
            activation=self.activation,
            bias=self.bias,
            output_gain=float(self.output_gain),
        )


class Outputs:
    """In place of an action head: a network's outputs as they are."""

    def __init__(self, num_outputs: int) -> None:
        """Of a network with so many outputs."""
        self.num_outputs = num_outputs
        self.space = None
        self.decode: Callable[[FloatArray], FloatArray] = _same

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the number."""
        return Outputs, (self.num_outputs,)


def _same(outputs: FloatArray) -> FloatArray:
    return outputs


@dataclass(frozen=True, eq=False)
class NetworkScores(ABC):
    """What policies of this kind share: forward, backward, and sampling.

    Attributes:
        network: observation -> outputs.
    """

    network: NetworkPolicy

    @property
    def num_parameters(self) -> int:
        """Length d of a parameter vector."""
        return self.network.num_parameters

    @property
    def observation_size(self) -> int:
        """Length k of an encoded observation."""
        return self.network.observation_size

    @property
    def encode(self) -> Callable[[Any], FloatArray]:
        """Environment observation -> (k,) float64 array."""
        return self.network.encode

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True

    def initial(self, generator: Generator) -> FloatArray:
        """Parameters to start from, (d,): those of the network."""
        return self.network.initial(generator)

    def bind(self, parameters: FloatArray) -> Act:
        """Make the acting function: the likeliest action where there is no generator."""
        choose, decode = self.choose(parameters), self.decode
        outputs, likeliest = self.network.bind(parameters), self.likeliest

        def act(observation: FloatArray, generator: Generator | None) -> Any:
            if generator is None:
                return decode(likeliest(outputs(observation, None)))
            return decode(choose(observation, generator))

        return act

    def choose(self, parameters: FloatArray) -> Choose:
        """Make the sampling function of one episode."""
        outputs, sample = self.network.bind(parameters), self.sample
        return lambda observation, generator: sample(outputs(observation, None), generator)

    def log_prob(
        self, parameters: FloatArray, observations: FloatArray, choices: Array
    ) -> FloatArray:
        """Log π(c_t | x_t), (T,)."""
        outputs, _ = self.forward(parameters, observations)
        return self.scores(outputs, choices)[0]

    def log_prob_grad(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
    ) -> FloatArray:
        """Σ_t w_t ∇ log π(c_t | x_t), (d,)."""
        totals = self.score_totals(parameters, observations, choices, weights[np.newaxis])
        gradient: FloatArray = totals.scores[0]
        return gradient

    @property
    def entropy_varies(self) -> bool:
        """Unless a kind of policy says otherwise."""
        return True

    def score_totals(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
        *,
        squares: bool = False,
        entropy: bool = False,
    ) -> ScoreTotals:
        """Add up scores, weighted in several ways: one pass forward, one back."""
        outputs, inside = self.forward(parameters, observations)
        slopes = self.backward(parameters, inside, self.scores(outputs, choices)[1])
        totals = ScoreTotals(self._totals(inside, slopes, weights))
        if squares:
            # A weight's gradient in one row is input times slope, so its square is, too.
            entering, leaving = ([each**2 for each in layers] for layers in (inside, slopes))
            totals = replace(totals, squares=self._totals(entering, leaving, weights))
        if entropy:
            slopes = self.backward(parameters, inside, self.entropies(outputs)[1])
            evenly = np.ones((1, len(outputs)))
            totals = replace(totals, entropy=self._totals(inside, slopes, evenly)[0])
        return totals

    def forward(
        self, parameters: FloatArray, observations: FloatArray
    ) -> tuple[FloatArray, list[FloatArray]]:
        """Outputs (T, o), and the inputs of every layer.

        Args:
            parameters: (d,).
            observations: (T, k).
        """
        inside, values = [], observations
        layers = self.network.layers(parameters)
        for number, (weights, bias) in enumerate(layers):
            inside.append(values)
            values = values @ weights
            if bias is not None:
                values = values + bias
            if number < len(layers) - 1:
                values = (
                    np.tanh(values)
                    if self.network.activation == "tanh"
                    else np.maximum(values, 0.0)
                )
        return values, inside

    def backward(
        self, parameters: FloatArray, inside: list[FloatArray], slopes: FloatArray
    ) -> list[FloatArray]:
        """Derivatives of each row's function by the outputs of every layer.

        Args:
            parameters: (d,).
            inside: inputs of every layer, from `forward`.
            slopes: (T, o) derivatives by the last outputs.
        """
        through = [slopes]
        layers = self.network.layers(parameters)
        for number in range(len(layers) - 1, 0, -1):
            values = inside[number]
            passed = 1.0 - values**2 if self.network.activation == "tanh" else values > 0
            through.append((through[-1] @ layers[number][0].T) * passed)
        return through[::-1]

    def _totals(
        self, inside: list[FloatArray], slopes: list[FloatArray], weights: FloatArray
    ) -> FloatArray:
        """Gradients by all parameters, (w, d): rows added up with each row of weights (w, T)."""
        parts = []
        for entering, leaving in zip(inside, slopes, strict=True):
            weighed = weights[:, :, np.newaxis] * leaving
            parts.append((entering.T @ weighed).reshape(len(weights), -1))
            if self.network.bias:
                parts.append(weighed.sum(axis=1))
        return np.concatenate(parts, axis=1)

    @abstractmethod
    def sample(self, outputs: FloatArray, generator: Generator) -> Any:
        """Sample a choice from outputs, (o,)."""

    @abstractmethod
    def likeliest(self, outputs: FloatArray) -> Any:
        """The most probable choice for outputs, (o,)."""

    @abstractmethod
    def decode(self, choice: Any) -> Any:
        """Make an action of a choice."""

    @abstractmethod
    def scores(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
        """Log-probabilities (T,), and their derivatives by the outputs, (T, o)."""

    @abstractmethod
    def entropies(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Entropies of the law of choices (T,), and their derivatives, (T, o)."""


@dataclass(frozen=True, eq=False)
class CategoricalPolicy(NetworkScores):
    """Softmax over one output for each action.

    Attributes:
        start: number of the first action.
    """

    start: int

    def sample(self, outputs: FloatArray, generator: Generator) -> int:
        """Invert the distribution function."""
        shares = np.exp(outputs - outputs.max())
        ends = np.cumsum(shares)
        return int((generator.random() * ends[-1] >= ends[:-1]).sum())

    def likeliest(self, outputs: FloatArray) -> int:
        """The largest output."""
        return int(outputs.argmax())

    def decode(self, choice: int) -> int:
        """Count from the space's own first number."""
        return self.start + int(choice)

    def scores(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
        """Log softmax at the choices; its derivative e_c - p."""
        logs = _log_softmax(outputs)
        rows = np.arange(len(outputs))
        chosen = choices.astype(np.int64)
        slopes = -np.exp(logs)
        slopes[rows, chosen] += 1.0
        return logs[rows, chosen], slopes

    def entropies(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """H = -Σ p log p; its derivative -p (log p + H)."""
        logs = _log_softmax(outputs)
        shares = np.exp(logs)
        values = -(shares * logs).sum(axis=1)
        return values, -shares * (logs + values[:, None])


@dataclass(frozen=True, eq=False)
class BernoulliPolicy(NetworkScores):
    """Logistic law of two actions with one output, the logit of the second.

    Attributes:
        start: number of the first action.
    """

    start: int

    def sample(self, outputs: FloatArray, generator: Generator) -> int:
        """The second action with probability σ(z)."""
        return int(generator.random() < _sigmoid(outputs[:1])[0])

    def likeliest(self, outputs: FloatArray) -> int:
        """The second where its logit is not negative."""
        return int(outputs[0] >= 0)

    def decode(self, choice: int) -> int:
        """Count from the space's own first number."""
        return self.start + int(choice)

    def scores(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
        """Log σ(±z); its derivative a - σ(z)."""
        logit = outputs[:, 0]
        signed = np.where(choices > 0, logit, -logit)
        values: FloatArray = -np.logaddexp(0.0, -signed)
        return values, (choices - _sigmoid(logit))[:, None]

    def entropies(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Binary entropy; its derivative -z σ(z) σ(-z)."""
        logit = outputs[:, 0]
        share = _sigmoid(logit)
        values: FloatArray = np.logaddexp(0.0, logit) - share * logit
        return values, (-logit * share * (1 - share))[:, None]


@dataclass(frozen=True, eq=False)
class GaussianPolicy(NetworkScores):
    """Normal law about the outputs, with a fixed standard deviation.

    Attributes:
        head: clips and casts a choice into an action.
        std: in units of the outputs.
    """

    head: ActionHead
    std: float

    @property
    def entropy_varies(self) -> bool:
        """Never: the noise is as wide everywhere."""
        return False

    def sample(self, outputs: FloatArray, generator: Generator) -> FloatArray:
        """Add noise."""
        return outputs + self.std * generator.standard_normal(len(outputs))

    def likeliest(self, outputs: FloatArray) -> FloatArray:
        """The mean."""
        return outputs

    def decode(self, choice: FloatArray) -> Any:
        """Clip and cast."""
        return self.head.decode(choice)

    def scores(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
        """Normal log-density; its derivative (c - μ)/σ²."""
        apart = (choices.reshape(outputs.shape) - outputs) / self.std
        scale = outputs.shape[1] * (math.log(self.std) + 0.5 * math.log(2 * math.pi))
        return -0.5 * (apart**2).sum(axis=1) - scale, apart / self.std

    def entropies(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same for all outputs."""
        count, size = outputs.shape
        value = size * (math.log(self.std) + 0.5 * math.log(2 * math.pi * math.e))
        return np.full(count, value), np.zeros((count, size))


def _log_softmax(outputs: FloatArray) -> FloatArray:
    apart = outputs - outputs.max(axis=1, keepdims=True)
    logs: FloatArray = apart - np.log(np.exp(apart).sum(axis=1, keepdims=True))
    return logs


def _sigmoid(logit: FloatArray) -> FloatArray:
    share: FloatArray = np.exp(-np.logaddexp(0.0, -logit))
    return share
