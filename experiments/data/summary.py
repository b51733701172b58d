"""What has to be known of all training images, found piece by piece: their statistics, ranges and checksum."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_POLYNOMIAL = 0xEDB88320  # of CRC-32, the coefficient of x^0 in the highest of 32 bits, as in all numbers below
_ONE, _BYTE = 1 << 31, 1 << 23  # x^0 and x^8


@dataclass(frozen=True)
class ImageSummary:
    """Of some images with labels, one or more, in their order.

    Args:
        count: how many images.
        pixels: of each channel, in all of them.
        totals: sum of each channel.
        squares: sum of the squares of each channel.
        lowest: of each channel.
        highest: of each channel.
        lowest_label: of all.
        highest_label: of all.
        images_crc: CRC-32 of the images' bytes.
        labels_crc: CRC-32 of the labels' bytes.
    """

    count: int
    pixels: int
    totals: tuple[int, ...]
    squares: tuple[int, ...]
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    lowest_label: int
    highest_label: int
    images_crc: int
    labels_crc: int

    @property
    def channel_mean(self) -> np.ndarray:
        """Mean of the pixels / 255, float32 [C]."""
        return channel_mean(self.totals, self.pixels)

    @property
    def channel_std(self) -> np.ndarray:
        """Standard deviation of the pixels / 255, float32 [C]."""
        return channel_std(self.totals, self.squares, self.pixels)

    @property
    def checksum(self) -> str:
        """``checksum(images, labels)`` of all images and all labels, which were never in one place."""
        return f"{_crc_of_both(self.images_crc, self.labels_crc, 4 * self.count):08x}"

    def followed_by(self, other: "ImageSummary") -> "ImageSummary":
        """The summary of these images and then those.

        Args:
            other: of images of the same number of channels.

        Example:
            >>> images, labels = np.arange(96, dtype=np.uint8).reshape(6, 4, 4, 1), np.arange(6, dtype=np.int32)
            >>> whole, *halves = (summarize(images[rows], labels[rows]) for rows in np.s_[:, :3, 3:])
            >>> halves[0].followed_by(halves[1]) == whole
            True
        """
        return ImageSummary(
            count=self.count + other.count,
            pixels=self.pixels + other.pixels,
            totals=tuple(map(sum, zip(self.totals, other.totals, strict=True))),
            squares=tuple(map(sum, zip(self.squares, other.squares, strict=True))),
            lowest=tuple(map(min, self.lowest, other.lowest)),
            highest=tuple(map(max, self.highest, other.highest)),
            lowest_label=min(self.lowest_label, other.lowest_label),
            highest_label=max(self.highest_label, other.highest_label),
            images_crc=_crc_of_both(self.images_crc, other.images_crc, other.pixels * len(other.totals)),
            labels_crc=_crc_of_both(self.labels_crc, other.labels_crc, 4 * other.count),
        )


def summarize(images: np.ndarray, labels: np.ndarray) -> ImageSummary:
    """The summary of images that are in memory.

    Args:
        images: uint8 [N, H, W, C], at least one.
        labels: int32 [N].
    """
    totals, squares = channel_sums(images)
    lowest, highest = channel_ranges(images)
    return ImageSummary(
        count=len(images),
        pixels=images[..., 0].size,
        totals=tuple(totals),
        squares=tuple(squares),
        lowest=tuple(lowest),
        highest=tuple(highest),
        lowest_label=int(labels.min()),
        highest_label=int(labels.max()),
        images_crc=zlib.crc32(images.tobytes()),
        labels_crc=zlib.crc32(labels.astype(np.int32).tobytes()),
    )


def channel_ranges(images: np.ndarray) -> tuple[list[int], list[int]]:
    """Lowest and highest value of each channel of images [N, H, W, C]."""
    # One axis at a time: 50,000 coloured images take 0.02 s instead of 1 s.
    return images.min(axis=0).min(axis=(0, 1)).tolist(), images.max(axis=0).max(axis=(0, 1)).tolist()


def channel_sums(images: np.ndarray) -> tuple[list[int], list[int]]:
    """Sum of each channel of images uint8 [N, H, W, C], and of its squares."""
    return _sums(images), _sums(np.square(images, dtype=np.uint16))  # which holds 255**2


def channel_mean(totals: Sequence[int], count: int) -> np.ndarray:
    """Mean / 255 of ``count`` numbers of each sum, float32 [C]."""
    return np.array([total / count / 255 for total in totals], np.float32)


def channel_std(totals: Sequence[int], squares: Sequence[int], count: int) -> np.ndarray:
    """Standard deviation / 255 of ``count`` numbers of each sum and sum of squares, float32 [C]."""
    # In integers, so that the difference is exact: count**2 times the variance.
    scaled = [count * square - total**2 for total, square in zip(totals, squares, strict=True)]
    return np.array([math.sqrt(value) / count / 255 for value in scaled], np.float32)


def _sums(pixels: np.ndarray) -> list[int]:
    # Examples first: many times faster than all axes at once.
    return pixels.sum(axis=0, dtype=np.uint64).sum(axis=(0, 1)).tolist()


def _crc_of_both(first: int, second: int, length: int) -> int:
    """CRC-32 of some bytes and ``length`` further ones, from those of both: x^(8 length) first + second."""
    power, square = _ONE, _BYTE
    while length:
        if length & 1:
            power = _product(power, square)
        square, length = _product(square, square), length >> 1
    return _product(power, first) ^ second


def _product(one: int, other: int) -> int:
    """Product of two polynomials over GF(2), modulo that of CRC-32."""
    found = 0
    for bit in range(31, -1, -1):  # x^0 first; other is multiplied by x each time
        if one >> bit & 1:
            found ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return found
