"""Stochastic policies whose log-probabilities have gradients: a network, and a law of actions.

An action is sampled from outputs of a network of fully connected layers. What is recorded
and scored is the sampled *choice*, before clipping and casting make it an action: the
score of a clipped number would be that of another one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.random import Generator

from distes.errors import UsageError
from distes.numerics import arithmetic
from distes.policies.base import Act, Choose, PolicySpec, Sampler
from distes.policies.network import Activation, NetworkPolicy, refuse_layers
from distes.policies.spaces import ActionHead, encoder
from distes.types import Array, FloatArray

Product = Callable[[FloatArray, FloatArray], FloatArray]


@runtime_checkable
class ScoredPolicy(Sampler, Protocol):
    """A policy that samples, and can say how its choices depend on its parameters."""

    def log_prob(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        *,
        exact: bool = True,
    ) -> FloatArray:
        """Log π(c_t | x_t), (T,).

        Args:
            parameters: (d,).
            observations: (T, k) encoded.
            choices: (T,) or (T, a).
            exact: whether a row must have the bits that it has alone; if not, it is faster.
        """

    def log_prob_grad(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
        *,
        entropy_weights: FloatArray | None = None,
        exact: bool = True,
    ) -> FloatArray:
        """Σ_t w_t ∇ log π(c_t | x_t) + Σ_t v_t ∇ H(π(· | x_t)), (d,).

        Args:
            parameters: (d,).
            observations: (T, k) encoded.
            choices: (T,) or (T, a).
            weights: w, (T,).
            entropy_weights: v, (T,); None leaves the entropy out.
            exact: as in `log_prob`.
        """


@runtime_checkable
class SquaredScores(ScoredPolicy, Protocol):
    """A policy that also gives the squares of its scores."""

    def log_prob_grad_squares(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
    ) -> FloatArray:
        """Σ_t w_t (∇ log π(c_t | x_t))², element by element, (d,).

        Args:
            parameters: (d,).
            observations: (T, k) encoded.
            choices: (T,) or (T, a).
            weights: w, (T,).
        """


@dataclass(frozen=True)
class ScoredSpec(PolicySpec):
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
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        *,
        exact: bool = True,
    ) -> FloatArray:
        """Log π(c_t | x_t), (T,)."""
        outputs, _ = self.forward(parameters, observations, _product(exact))
        return self.scores(outputs, choices)[0]

    def log_prob_grad(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
        *,
        entropy_weights: FloatArray | None = None,
        exact: bool = True,
    ) -> FloatArray:
        """Σ_t w_t ∇ log π(c_t | x_t) + Σ_t v_t ∇ H(π(· | x_t)), (d,)."""
        outputs, inside = self.forward(parameters, observations, _product(exact))
        slopes = self.scores(outputs, choices)[1] * weights[:, None]
        if entropy_weights is not None:
            slopes = slopes + self.entropies(outputs)[1] * entropy_weights[:, None]
        return self.backward(parameters, inside, slopes)

    def log_prob_grad_squares(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
    ) -> FloatArray:
        """Σ_t w_t (∇ log π(c_t | x_t))², element by element, (d,)."""
        outputs, inside = self.forward(parameters, observations)
        slopes = self.scores(outputs, choices)[1]
        return self.backward(parameters, inside, slopes, weights)

    def forward(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        product: Product = arithmetic.product,
    ) -> tuple[FloatArray, list[FloatArray]]:
        """Outputs (T, o), and the inputs of every layer.

        Args:
            parameters: (d,).
            observations: (T, k).
            product: of rows and weights. The default gives the bits that acting gives.
        """
        inside, values = [], observations
        layers = self.network.layers(parameters)
        for number, (weights, bias) in enumerate(layers):
            inside.append(values)
            values = product(values, arithmetic.weights(weights))[:, : weights.shape[1]]
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
        self,
        parameters: FloatArray,
        inside: list[FloatArray],
        slopes: FloatArray,
        squared: FloatArray | None = None,
    ) -> FloatArray:
        """Gradient of a function of the outputs, (d,), summed over the rows.

        Args:
            parameters: (d,).
            inside: inputs of every layer, from `forward`.
            slopes: (T, o) derivatives by the outputs.
            squared: (T,) weights with which the squares of the rows' gradients are summed
                instead. A weight's gradient is input times slope, so squares are, too.
        """
        gradient = np.empty(self.num_parameters)
        layers = self.network.layers(parameters)
        places = self.network.layers(gradient)
        for number in range(len(layers) - 1, -1, -1):
            (weights, _), (into, bias) = layers[number], places[number]
            if squared is None:
                entering, leaving = inside[number], slopes
            else:
                entering, leaving = inside[number] ** 2, slopes**2 * squared[:, None]
            into[:] = entering.T @ leaving
            if bias is not None:
                bias[:] = leaving.sum(axis=0)
            if number:
                values = inside[number]
                through = 1.0 - values**2 if self.network.activation == "tanh" else values > 0
                slopes = (slopes @ weights.T) * through
        return gradient

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


def _product(exact: bool) -> Product:
    return arithmetic.product if exact else np.matmul


def _log_softmax(outputs: FloatArray) -> FloatArray:
    apart = outputs - outputs.max(axis=1, keepdims=True)
    logs: FloatArray = apart - np.log(np.exp(apart).sum(axis=1, keepdims=True))
    return logs


def _sigmoid(logit: FloatArray) -> FloatArray:
    share: FloatArray = np.exp(-np.logaddexp(0.0, -logit))
    return share
