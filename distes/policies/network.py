"""A feed-forward network between encoder and head: what Linear and MLP are built as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Discrete
from numpy.random import Generator

from distes.errors import UsageError
from distes.policies import products
from distes.policies.base import Act, BuiltPolicy, number_names
from distes.policies.spaces import ActionHead, ObservationEncoder
from distes.types import FloatArray

Activation = Literal["tanh", "relu"]


@dataclass(frozen=True)
class Outputs:
    """In place of an action head: a network's outputs as they are.

    Attributes:
        num_outputs: how many.
        space: none, for they are no action yet.
    """

    num_outputs: int
    space: ClassVar[None] = None

    def decode(self, outputs: FloatArray) -> FloatArray:
        return outputs


@dataclass(frozen=True, eq=False)
class NetworkPolicy(BuiltPolicy):
    """Encoder, affine layers with an activation between them, head.

    Parameters lie layer by layer: the weights (in, out) row by row, then the bias (out,).

    Attributes:
        encoder: environment observation -> (k,).
        head: (num_outputs,) -> action.
        hidden: sizes of the hidden layers; none makes the policy linear.
        activation: after each hidden layer.
        bias: whether layers have one.
        output_gain: factor on the last of several layers' initial weights.
    """

    encoder: ObservationEncoder
    head: ActionHead | Outputs
    hidden: tuple[int, ...] = ()
    activation: Activation = "tanh"
    bias: bool = True
    output_gain: float = 1.0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of each layer, from the encoded observation to the outputs."""
        return (self.encoder.size, *self.hidden, self.head.num_outputs)

    @cached_property
    def num_parameters(self) -> int:
        return sum((fan_in + self.bias) * fan_out for fan_in, fan_out in self._shapes)

    def initial(self, generator: Generator) -> FloatArray:
        """Parameters to start a search from, (d,).

        Zeros for a linear policy. With hidden layers zeros would stay alike for all
        units: weights are Glorot-uniform (Glorot and Bengio 2010, eq. 16), biases zero.
        """
        parameters = np.zeros(self.num_parameters)
        if self.hidden:
            for weights, _ in self.layers(parameters):
                limit = np.sqrt(6.0 / sum(weights.shape))
                weights[:] = generator.uniform(-limit, limit, weights.shape)
            weights *= self.output_gain
        return parameters

    def name_parameters(self, observations: Sequence[str] | None) -> list[str]:
        """Name them ``w[observation, output]`` and ``b[output]``; layers are counted from 1.

        >>> from gymnasium.spaces import Box, Discrete
        >>> seen, head = ObservationEncoder(Box(-1, 1, (2,))), ActionHead(Discrete(2))
        >>> NetworkPolicy(seen, head).name_parameters(["x", "v"])
        ['w[x, 0]', 'w[x, 1]', 'w[v, 0]', 'w[v, 1]', 'b[0]', 'b[1]']
        >>> NetworkPolicy(seen, head, (1,), bias=False).name_parameters(None)
        ['w1[0, 0]', 'w1[1, 0]', 'w2[0, 0]', 'w2[0, 1]']
        """
        names = []
        entering = number_names(observations, self.encoder.size)
        for number, (_, fan_out) in enumerate(self._shapes, start=1):
            layer = number if self.hidden else ""
            leaving = number_names(None, fan_out)
            names += [f"w{layer}[{source}, {unit}]" for source in entering for unit in leaving]
            names += [f"b{layer}[{unit}]" for unit in leaving] if self.bias else []
            entering = leaving
        return names

    def layers(self, parameters: FloatArray) -> list[tuple[FloatArray, FloatArray | None]]:
        """View parameters as [(weights (in, out), bias (out,) or None), ...].

        Raises:
            ValueError: there are more or fewer than d.
        """
        if parameters.shape != (self.num_parameters,):
            raise ValueError(
                f"parameters have shape {parameters.shape}, the policy has {self.num_parameters}"
            )
        layers: list[tuple[FloatArray, FloatArray | None]] = []
        start = 0
        for fan_in, fan_out in self._shapes:
            stop = start + fan_in * fan_out
            weights = parameters[start:stop].reshape(fan_in, fan_out)
            start = stop + fan_out if self.bias else stop
            layers.append((weights, parameters[stop:start] if self.bias else None))
        return layers

    def bind(self, parameters: FloatArray) -> Act:
        # The copy is contiguous and aligned, so that bits cannot depend on where it came from.
        layers = self.layers(np.array(parameters, np.float64))
        decode = self.head.decode
        if not self.hidden:
            weights, bias = layers[0]
            space = self.head.space
            plain = isinstance(space, Discrete) and space.start == 0 and space.n >= 2
            if plain and bias is not None:
                # The commonest policy, in one function: two calls are 2% of CartPole.
                einsum, laid_out = np.einsum, products.lay_out(weights)
                return lambda observation, _generator: int(
                    (einsum("i,io->o", observation, laid_out) + bias).argmax()
                )
            linear = _make_affine(weights, bias)
            return lambda observation, _generator: decode(linear(observation))
        *affine, outputs = (_make_affine(*layer) for layer in layers)
        tanh = self.activation == "tanh"

        def act(observation: FloatArray, _generator: Generator | None) -> Any:
            values = observation
            for layer in affine:
                values = np.tanh(layer(values)) if tanh else np.maximum(layer(values), 0.0)
            return decode(outputs(values))

        return act

    @cached_property
    def _shapes(self) -> list[tuple[int, int]]:
        return list(pairwise(self.sizes))


def refuse_layers(hidden: object, at_least_one: bool = False) -> None:
    """Refuse layers without units.

    Raises:
        UsageError: one sentence with what is accepted.
    """
    sizes = hidden if isinstance(hidden, tuple | list) else (0,)
    if any(type(size) is not int or size < 1 for size in sizes) or (at_least_one and not sizes):
        many = "one or more whole numbers" if at_least_one else "whole numbers"
        raise UsageError(f"hidden {hidden} is not {many} of at least 1, for example (32, 32)")


def _make_affine(
    weights: FloatArray, bias: FloatArray | None
) -> Callable[[FloatArray], FloatArray]:
    """Make the function x -> x·W + b: `products.multiply` without its call at every step."""
    einsum = np.einsum
    laid_out = products.lay_out(weights)
    if weights.shape[1] == 1:
        offset = 0.0 if bias is None else bias
        return lambda values: einsum("i,io->o", values, laid_out)[:1] + offset
    if bias is None:
        return lambda values: einsum("i,io->o", values, laid_out)
    return lambda values: einsum("i,io->o", values, laid_out) + bias
