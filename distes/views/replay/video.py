"""Frames into a file: MP4 by ffmpeg, GIF by Pillow, each frame with a line below it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from distes.errors import UsageError, unknown
from distes.runs.storage.location import URI, locate
from distes.types import Array
from distes.views.figures.style import refuse_nameless

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont


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


def locate_video(out: str | Path) -> Path:
    """Where a video is to be written.

    Raises:
        UsageError: it is no local path, there is a file already, the format is unknown, or
            the libraries that write it are not installed.
    """
    place = locate(out)
    if isinstance(place, URI):
        raise UsageError(f"'{place}' is a URI: a video is written to a local path")
    refuse_nameless(place, FORMATS)
    if place.suffix.lower() not in FORMATS:
        raise unknown("video format", place.suffix or place.name, FORMATS)
    if place.exists():
        raise UsageError(f"'{place}' is there already: name another file, or remove it")
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the file its name, or leave nothing of it if something went wrong.

        Raises:
            UsageError: it can't be written.
        """
        try:
            if self.frames and error is None:
                self._writer.close()
                self._part.replace(self._place)
            elif self.frames:
                with contextlib.suppress(Exception):
                    self._writer.abandon()
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
                self._writer.add(image)
        except OSError as fault:
            raise self._say_unwritable(fault) from fault
        self.frames += times
        return self.frames < self._limits.frames

    @cached_property
    def _writer(self) -> _MP4 | _GIF:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        kind = _GIF if self._place.suffix.lower() == ".gif" else _MP4
        return kind(self._part, self._fps)

    def _add_caption(self, frame: Array, caption: str) -> Image:
        from PIL import Image, ImageDraw

        image = Image.fromarray(np.ascontiguousarray(frame))
        if self._size is None:
            self._size = scale_size(image.size, self._limits.side)
        width, height = self._size
        if image.size != self._size:
            grows = width > image.width
            how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
            image = image.resize(self._size, how)
        strip = self._font.size * 2
        strip += (height + int(strip)) % 2  # both sides even, as the MP4 codec wants them
        whole = Image.new("RGB", (width, height + int(strip)), "#F2F2F2")
        whole.paste(image)
        ImageDraw.Draw(whole).text(
            (width / 2, height + strip / 2), caption, fill="#222222", font=self._font, anchor="mm"
        )
        return whole

    @cached_property
    def _font(self) -> FreeTypeFont:
        from PIL import ImageFont

        assert self._size is not None  # noqa: S101 - the caller has set it
        font: Any = ImageFont.load_default(min(16, max(11, self._size[0] // 22)))
        return font  # type: ignore[no-any-return]

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


class _MP4:
    def __init__(self, place: Path, fps: float) -> None:
        self._place, self._fps = place, fps
        self._send: Generator[None, Any, None] | None = None

    def add(self, image: Image) -> None:
        import imageio_ffmpeg

        if self._send is None:
            # Opened here: ffmpeg would otherwise say on its own what is wrong with the place.
            self._place.touch()
            self._send = imageio_ffmpeg.write_frames(
                str(self._place),
                image.size,
                fps=self._fps,
                macro_block_size=2,
                ffmpeg_log_level="error",
                # Played in browsers before all of it is there.
                output_params=["-movflags", "+faststart"],
            )
            next(self._send)
        self._send.send(image.tobytes())

    def close(self) -> None:
        if self._send is not None:
            self._send.close()

    def abandon(self) -> None:
        self.close()


class _GIF:
    def __init__(self, place: Path, fps: float) -> None:
        place.touch()
        self._place, self._duration = place, round(1000 / fps)
        self._images: list[Image] = []
        self._durations: list[int] = []
        self._last: Image | None = None

    def add(self, image: Image) -> None:
        from PIL.Image import Dither, Quantize

        if image is self._last:
            self._durations[-1] += self._duration
            return
        self._last = image
        # At once: a third of the memory.
        self._images.append(image.quantize(method=Quantize.FASTOCTREE, dither=Dither.NONE))
        self._durations.append(self._duration)

    def close(self) -> None:
        first, *others = self._images
        first.save(
            self._place, save_all=True, append_images=others, duration=self._durations, loop=0
        )

    def abandon(self) -> None:
        self._images.clear()
