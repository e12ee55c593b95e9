"""Frames into a file: MP4 by ffmpeg, GIF by Pillow, each frame with a line below it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from distes.errors import UsageError
from distes.types import Array
from distes.views.figures.style import locate_file

if TYPE_CHECKING:
    from PIL.Image import Image


class Limits(NamedTuple):
    """What keeps a file of a format small enough to be of use.

    Attributes:
        fps: frames a second; environments that step faster skip some.
        frames: in all; what comes later is left out.
        side: pixels of the longer side; larger frames are scaled down.
    """

    fps: float
    frames: int
    side: int


FORMATS = {".gif": Limits(25, 1_000, 480), ".mp4": Limits(60, 20_000, 1280)}

SMALLEST = 240
"""Pixels of the longer side up to which small frames are magnified: captions stay legible."""


def locate_video(out: str | Path, *, force: bool = False) -> Path:
    """Where a video is to be written; ``force`` may overwrite one.

    Raises:
        UsageError: it is no local path, there is a file already, the format is unknown, or
            the libraries that write it are not installed.
    """
    place = locate_file(out, "a video", "video format", FORMATS, force=force)
    for library in ("imageio_ffmpeg", "PIL"):
        try:
            importlib.import_module(library)
        except ModuleNotFoundError:
            raise UsageError(
                "videos need imageio-ffmpeg and Pillow, which are not installed: "
                "pip install 'distes[video]'"
            ) from None
    return place


class Video:
    """A video file, written frame by frame; it is there once it is whole, or not at all.

    Args:
        place: from `locate_video`; its folder is made if needed.
        fps: frames a second.
        limits: None takes those of the format.

    Attributes:
        frames: taken so far.
    """

    def __init__(self, place: Path, fps: float, limits: Limits | None = None) -> None:
        self.frames = 0
        self._place = place
        self._fps = fps
        self._limits = FORMATS[place.suffix.lower()] if limits is None else limits
        self._part = place.with_name(f".{place.stem}.part{place.suffix.lower()}")
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Begin; nothing is written before the first frame."""
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Give the file its name, or leave nothing of it if something went wrong.

        Raises:
            UsageError: it can't be written.
        """
        try:
            if self.frames and error is None:
                with contextlib.suppress(StopIteration):
                    self._sink.send(None)
                self._part.replace(self._place)
            elif self.frames:
                with contextlib.suppress(Exception):
                    self._sink.close()
        except OSError as fault:
            raise self._say_unwritable(fault) from fault
        finally:
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)

    def add(self, frame: Array, caption: str, times: int = 1) -> bool:
        """Take a frame.

        Args:
            frame: (height, width, 3) uint8; all are brought to the first one's size.
            caption: the line below it.
            times: how often it is shown in turn.

        Returns:
            Whether there is room for more.

        Raises:
            UsageError: it can't be written.
        """
        times = min(times, self._limits.frames - self.frames)
        if times <= 0:
            return False
        image = self._add_caption(frame, caption)
        try:
            for _ in range(times):
                self._sink.send(image)
        except OSError as fault:
            raise self._say_unwritable(fault) from fault
        self.frames += times
        return self.frames < self._limits.frames

    @cached_property
    def _sink(self) -> Sink:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        write = _write_gif if self._place.suffix.lower() == ".gif" else _write_mp4
        sink = write(self._part, self._fps)
        next(sink)
        return sink

    def _add_caption(self, frame: Array, caption: str) -> Image:
        from PIL import Image, ImageDraw, ImageFont

        image = Image.fromarray(np.ascontiguousarray(frame))
        if self._size is None:
            self._size = scale_size(image.size, self._limits.side)
            self._font: Any = ImageFont.load_default(min(16, max(11, self._size[0] // 22)))
        width, height = self._size
        if image.size != self._size:
            grows = width > image.width
            how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
            image = image.resize(self._size, how)
        strip = int(self._font.size) * 2
        strip += (height + strip) % 2  # both sides even, as the MP4 codec wants them
        whole = Image.new("RGB", (width, height + strip), "#F2F2F2")
        whole.paste(image)
        ImageDraw.Draw(whole).text(
            (width / 2, height + strip / 2), caption, fill="#222222", font=self._font, anchor="mm"
        )
        return whole

    def _say_unwritable(self, fault: OSError) -> UsageError:
        reason = fault.strerror or " ".join(str(fault).split())
        return UsageError(f"'{self._place}' can't be written: {reason}")


def scale_size(size: tuple[int, int], most: int) -> tuple[int, int]:
    """Scale a frame's size: large ones down, very small ones up by a whole number.

    Args:
        size: width and height.
        most: pixels of the longer side.

    >>> scale_size((600, 400), 480), scale_size((600, 400), 1280), scale_size((84, 84), 480)
    ((480, 320), (600, 400), (252, 252))
    """
    longer = max(size)
    scale = most / longer if longer > most else float(max(1, -(-SMALLEST // longer)))
    width, height = (max(2, round(side * scale)) for side in size)
    return width + width % 2, height


Sink = Generator[None, "Image | None", None]
"""Writes the images that it is sent, and is done with the file when it is sent None."""


def _write_mp4(place: Path, fps: float) -> Sink:
    import imageio_ffmpeg

    image = yield
    # Opened here: ffmpeg would otherwise say on its own what is wrong with the place.
    place.touch()
    assert image is not None  # noqa: S101 - nothing begins before the first image
    # Played in browsers before all of it is there.
    how: dict[str, Any] = {"output_params": ["-movflags", "+faststart"], "macro_block_size": 2}
    frames = imageio_ffmpeg.write_frames(
        str(place), image.size, fps=fps, ffmpeg_log_level="error", **how
    )
    next(frames)
    try:
        while image is not None:
            frames.send(image.tobytes())
            image = yield
    finally:
        frames.close()


def _write_gif(place: Path, fps: float) -> Sink:
    from PIL.Image import Dither, Quantize

    place.touch()
    images: list[Image] = []
    durations: list[int] = []
    last = None
    while (image := (yield)) is not None:
        if image is last:
            durations[-1] += round(1000 / fps)
            continue
        last = image
        # At once: a third of the memory.
        images.append(image.quantize(method=Quantize.FASTOCTREE, dither=Dither.NONE))
        durations.append(round(1000 / fps))
    images[0].save(place, save_all=True, append_images=images[1:], duration=durations, loop=0)
