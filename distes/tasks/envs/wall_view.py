"""The wall-following robot drawn: robot, trajectory, wall, target distance, sensor ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from distes.tasks.envs.wall_geometry import Pose, Wall

SIZE = 600
PIXELS_PER_MM = 1.5
NEAR = 2000.0  # how far lines without an end are drawn, mm

PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (170, 170, 170)
BRICK, GOAL, BODY, RAY = (150, 75, 55), (60, 150, 80), (60, 95, 160), (215, 90, 60)


class WallView:
    """A window with at most some frames a second, or a picture, whose middle is the robot."""

    def __init__(self, window: bool, frames_per_s: int) -> None:
        try:
            import pygame
        except ImportError as error:
            raise gym.error.DependencyNotInstalled(
                "drawing needs pygame: pip install 'distes[video]'"
            ) from error
        self._pygame, self._window, self._frames_per_s = pygame, window, frames_per_s
        pygame.font.init()
        self._font = pygame.font.Font(None, 24)
        self._clock = pygame.time.Clock()
        self._surface: Any = pygame.Surface((SIZE, SIZE))
        if window:
            pygame.display.init()
            pygame.display.set_caption("distes/WallFollow-v0")
            self._screen: Any = pygame.display.set_mode((SIZE, SIZE))

    def draw(
        self,
        wall: Wall,
        trajectory: Sequence[tuple[float, float]],
        pose: Pose,
        reading: float,
        caption: str,
    ) -> Any:
        """Draw the present; gives (height, width, 3) bytes where there is no window."""
        pygame, surface = self._pygame, self._surface
        surface.fill(PAPER)

        def at(x: float, y: float) -> tuple[int, int]:
            return (
                round(SIZE / 2 + (x - pose.x) * PIXELS_PER_MM),
                round(SIZE / 2 - (y - pose.y) * PIXELS_PER_MM),
            )

        # The wall's point nearest to the robot, and lines along the wall through it.
        gap = wall.distance(pose.x, pose.y)
        for off, color, width in ((0.0, BRICK, 7), (10.0, GOAL, 2)):
            x, y = pose.x + (gap - off) * wall.cos, pose.y + (gap - off) * wall.sin
            ends = [at(x - s * NEAR * wall.sin, y + s * NEAR * wall.cos) for s in (-1, 1)]
            pygame.draw.line(surface, color, *ends, width)
        if len(trajectory) > 1:
            pygame.draw.lines(surface, FAINT, False, [at(x, y) for x, y in trajectory], 2)
        pygame.draw.line(surface, RAY, at(pose.x, pose.y), at(*pose.ray_end(reading)), 2)
        pygame.draw.circle(surface, BODY, at(pose.x, pose.y), 9)
        nose = at(pose.x + 20 * math.cos(pose.heading), pose.y + 20 * math.sin(pose.heading))
        pygame.draw.line(surface, BODY, at(pose.x, pose.y), nose, 4)
        surface.blit(self._font.render(caption, True, INK, PAPER), (12, 10))
        pygame.draw.line(surface, INK, (12, SIZE - 14), (12 + 100 * PIXELS_PER_MM, SIZE - 14), 3)
        surface.blit(self._font.render("100 mm", True, INK), (12, SIZE - 36))
        if not self._window:
            return np.transpose(np.array(pygame.surfarray.pixels3d(surface)), (1, 0, 2))
        self._screen.blit(surface, (0, 0))
        pygame.event.pump()
        self._clock.tick(self._frames_per_s)
        pygame.display.flip()
        return None

    def close(self) -> None:
        """Close the window."""
        if self._window:
            self._pygame.display.quit()
