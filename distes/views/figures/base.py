"""What a figure is, and how it is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from distes.runs.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


class Figure(ABC):
    """A way to draw runs; ``plot(over=NAME)`` finds it by its file's name in this folder.

    `plot` makes it with the arguments ``x`` (the horizontal axis), ``log_x`` and ``log_y``
    (whether axes are logarithmic), ``components`` (of a context, counted from 0), ``title``
    and ``size`` (width and height in inches) as far as its constructor takes them; each needs
    a default. It has no other settings. A frozen dataclass with these fields is the simplest
    way. A title and a size that it does not take are given to the figure that it draws.

    Attributes:
        compares_runs: whether it draws several runs; the others draw one.
    """

    compares_runs: ClassVar[bool] = False

    @abstractmethod
    def draw(self, runs: Sequence[Run]) -> MatplotlibFigure:
        """Draw them.

        Args:
            runs: of a run in progress as far as it is; exactly one unless `compares_runs`.

        Returns:
            A matplotlib figure, 9 inches wide.

        Raises:
            UsageError: they hold nothing to draw, or a field does not fit them.
        """
