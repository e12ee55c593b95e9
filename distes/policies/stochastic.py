"""Stochastic policies whose log-probabilities have gradients: a network, and a law of actions.

An action is sampled from outputs of a network of fully connected layers. What is recorded
is the sampled *choice*, before clipping and casting make it an action: the
log-probability of a clipped number would be that of another one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.random import Generator

from distes.policies.base import Act, BuiltPolicy, Choose, PolicySpec
from distes.policies.log_probs import LogProbGradSums
from distes.policies.network import Activation, NetworkPolicy, Outputs, refuse_layers
from distes.policies.spaces import ActionHead, ObservationEncoder
from distes.types import Array, FloatArray, NonNegativeFloat


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
    output_gain: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        """Refuse layers without units."""
        refuse_layers(self.hidden)
        super().__post_init__()

    def network(self, observation_space: gym.Space[Any], num_outputs: int) -> NetworkPolicy:
        """Build the network that gives so many outputs.

        Raises:
            UsageError: observations are not supported.
        """
        return NetworkPolicy(
            ObservationEncoder(observation_space, self.scale_observations),
            Outputs(num_outputs),
            hidden=self.hidden,
            activation=self.activation,
            bias=self.bias,
            output_gain=self.output_gain,
        )


@dataclass(frozen=True, eq=False)
class StochasticNetwork(BuiltPolicy):
    """A network whose outputs set the law of actions; a subclass says which law.

    Attributes:
        network: observation -> outputs.
    """

    network: NetworkPolicy

    stochastic: ClassVar[bool] = True
    entropy_varies: ClassVar[bool] = True

    @cached_property
    def encoder(self) -> ObservationEncoder:  # type: ignore[override]  # a field elsewhere
        """The network's."""
        return self.network.encoder

    @property
    def num_parameters(self) -> int:
        return self.network.num_parameters

    def initial(self, generator: Generator) -> FloatArray:
        """Parameters to start from, (d,): those of the network."""
        return self.network.initial(generator)

    def name_parameters(self, observations: Sequence[str] | None) -> list[str]:
        """Name them as the network does."""
        return self.network.name_parameters(observations)

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
        return self.log_probs(outputs, choices)[0]

    def log_prob_grad(
        self, parameters: FloatArray, observations: FloatArray, choices: Array, weights: FloatArray
    ) -> FloatArray:
        """Σ_t w_t ∇ log π(c_t | x_t), (d,)."""
        sums = self.sum_log_prob_grads(parameters, observations, choices, weights[np.newaxis])
        gradient: FloatArray = sums.gradients[0]
        return gradient

    def sum_log_prob_grads(
        self,
        parameters: FloatArray,
        observations: FloatArray,
        choices: Array,
        weights: FloatArray,
        *,
        squares: bool = False,
        entropy: bool = False,
    ) -> LogProbGradSums:
        """Add up log-prob gradients, weighted in several ways: one pass forward, one back."""
        outputs, inputs = self.forward(parameters, observations)
        slopes = self.backward(parameters, inputs, self.log_probs(outputs, choices)[1])
        sums = LogProbGradSums(self._sum_rows(inputs, slopes, weights))
        if squares:
            # A weight's gradient in one row is input times slope, so its square is, too.
            entering, leaving = ([each**2 for each in layers] for layers in (inputs, slopes))
            sums = replace(sums, squares=self._sum_rows(entering, leaving, weights))
        if entropy:
            slopes = self.backward(parameters, inputs, self.entropies(outputs)[1])
            evenly = np.ones((1, len(outputs)))
            sums = replace(sums, entropy=self._sum_rows(inputs, slopes, evenly)[0])
        return sums

    def forward(
        self, parameters: FloatArray, observations: FloatArray
    ) -> tuple[FloatArray, list[FloatArray]]:
        """Compute outputs (T, o) from observations (T, k), and the inputs of every layer."""
        inputs, values = [], observations
        layers = self.network.layers(parameters)
        for number, (weights, bias) in enumerate(layers):
            inputs.append(values)
            values = values @ weights
            if bias is not None:
                values = values + bias
            if number < len(layers) - 1:
                tanh = self.network.activation == "tanh"
                values = np.tanh(values) if tanh else np.maximum(values, 0.0)
        return values, inputs

    def backward(
        self, parameters: FloatArray, inputs: list[FloatArray], slopes: FloatArray
    ) -> list[FloatArray]:
        """Derivatives of each row's function by the outputs of every layer.

        Backpropagation: with a_l the inputs of layer l, from `forward`, and δ of the last layer the
        slopes (T, o), δ_{l-1} = (δ_l W_lᵀ) ⊙ f'(a_l), where tanh' = 1 - a² and relu' = [a > 0].
        """
        found = [slopes]
        layers = self.network.layers(parameters)
        for number in range(len(layers) - 1, 0, -1):
            values = inputs[number]
            factor = 1.0 - values**2 if self.network.activation == "tanh" else values > 0
            found.append((found[-1] @ layers[number][0].T) * factor)
        return found[::-1]

    def _sum_rows(
        self, inputs: list[FloatArray], slopes: list[FloatArray], weights: FloatArray
    ) -> FloatArray:
        """Gradients by all parameters, (w, d): rows added up with each row of weights (w, T)."""
        parts = []
        for entering, leaving in zip(inputs, slopes, strict=True):
            weighted = weights[:, :, np.newaxis] * leaving
            # Σ_t w_t a_t δ_tᵀ by the weights of a layer, Σ_t w_t δ_t by its bias.
            parts.append((entering.T @ weighted).reshape(len(weights), -1))
            if self.network.bias:
                parts.append(weighted.sum(axis=1))
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
    def log_probs(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
        """Log-probabilities (T,), and their derivatives by the outputs, (T, o)."""

    @abstractmethod
    def entropies(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Entropies of the law of choices (T,), and their derivatives, (T, o)."""


@dataclass(frozen=True, eq=False)
class DiscretePolicy(StochasticNetwork):
    """A law of the actions of a Discrete space.

    Attributes:
        start: number of the first action.
    """

    start: int

    def decode(self, choice: int) -> int:
        return self.start + int(choice)


class CategoricalPolicy(DiscretePolicy):
    """Softmax over one output for each action."""

    def sample(self, outputs: FloatArray, generator: Generator) -> int:
        """Invert the distribution function."""
        shares = np.exp(outputs - outputs.max())
        ends = np.cumsum(shares)
        return int((generator.random() * ends[-1] >= ends[:-1]).sum())

    def likeliest(self, outputs: FloatArray) -> int:
        """The largest output."""
        return int(outputs.argmax())

    def log_probs(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
        """Log softmax at the choices; its derivative e_c - p."""
        logs = _log_softmax(outputs)
        at = np.arange(len(outputs)), choices.astype(np.int64)
        slopes = -np.exp(logs)
        slopes[at] += 1.0
        return logs[at], slopes

    def entropies(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """H = -Σ p log p; its derivative -p (log p + H)."""
        logs = _log_softmax(outputs)
        shares = np.exp(logs)
        values = -(shares * logs).sum(axis=1)
        return values, -shares * (logs + values[:, None])


class BernoulliPolicy(DiscretePolicy):
    """Logistic law of two actions with one output, the logit of the second."""

    def sample(self, outputs: FloatArray, generator: Generator) -> int:
        """The second action with probability σ(z)."""
        return int(generator.random() < _sigmoid(outputs[:1])[0])

    def likeliest(self, outputs: FloatArray) -> int:
        """The second where its logit is not negative."""
        return int(outputs[0] >= 0)

    def log_probs(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
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
class GaussianPolicy(StochasticNetwork):
    """Normal law about the outputs, with a fixed standard deviation.

    Attributes:
        head: clips and casts a choice into an action.
        std: in units of the outputs.
    """

    head: ActionHead
    std: float
    entropy_varies: ClassVar[bool] = False

    def sample(self, outputs: FloatArray, generator: Generator) -> FloatArray:
        """Add noise."""
        return outputs + self.std * generator.standard_normal(len(outputs))

    def likeliest(self, outputs: FloatArray) -> FloatArray:
        """The mean."""
        return outputs

    def decode(self, choice: FloatArray) -> Any:
        """Clip and cast."""
        return self.head.decode(choice)

    def log_probs(self, outputs: FloatArray, choices: Array) -> tuple[FloatArray, FloatArray]:
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
    return np.exp(-np.logaddexp(0.0, -logit))
