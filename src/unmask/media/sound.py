"""Take the sound out of a video, so that it can be put beside other pictures."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from unmask.media.failures import is_of_output, list_failures, tell_reason
from unmask.media.packets import to_the_end
from unmask.media.streams import choose_sound, choose_video
from unmask.media.video import open_container

_SOUND_OF_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})

_RATE = 48_000
"""Samples a second where AAC does not know those of the source."""


@contextmanager
def hold_sound(source: Path, *, beside: Path, tell: Callable[[str], None]) -> Iterator[Path | None]:
    """Write the sound of a video into a file of its own for a while, counted from the first frame of the picture.

    What comes out has been written once, so that it cannot fail beside the picture any more.

    Args:
        source: The video.
        beside: A file in whose folder there is room.
        tell: Takes a sentence on what of the sound is lost.

    Raises:
        MediaError: The source cannot be opened.

    Yields:
        An `.mp4`, or an `.mkv` where MP4 cannot hold the sound; None where there is none, or none that can be kept.
    """
    parts = [beside.with_name(f".{beside.stem}.{os.getpid()}.sound.part{suffix}") for suffix in (".mp4", ".mkv")]
    try:
        yield _extract(source, *parts, tell=tell)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _extract(source: Path, mp4: Path, mkv: Path, *, tell: Callable[[str], None]) -> Path | None:
    """Copy the sound, or else encode it anew: Matroska and MP4 do not know the codecs of old phones and Flash."""
    name = _name_codec(source)
    if name is None:
        return None
    reason = "its codec is not known here"
    for part, add in [(mp4 if name in _SOUND_OF_MP4 else mkv, _copy), (mp4, _transcode)] if name else []:
        try:
            lost: list[str] = []
            has_packets = _write(source, part, add, lost)
        except list_failures() as error:
            if is_of_output(error):
                raise
            reason = tell_reason(error)
        else:
            for sentence in lost:
                tell(sentence)
            return part if has_packets else None
    tell(f"its sound{name and f', {name},'} cannot be kept: {reason}")
    return None


def _name_codec(source: Path) -> str | None:
    """Return FFmpeg's name of the sound's codec, nothing where it is unknown, None where there is no sound."""
    with open_container(source) as container:
        if not container.streams.audio:
            return None
        stream = choose_sound(container)
        return "" if stream is None else str(stream.codec_context.codec.canonical_name)


def _write(source: Path, part: Path, add: Callable[[Any, Any, Iterator[Any]], Iterator[Any]], lost: list[str]) -> bool:
    """Write the packets that `add` makes of those of the source; tell whether there were any."""
    import av

    is_there = False
    # A bare name such as 'pipe:1/x.mp4' is an address.
    with open_container(source) as container, av.open(f"file:{part}", "w") as output:
        stream = choose_sound(container)
        for packet in add(output, stream, _read_packets(container, stream, lost)):
            output.mux(packet)
            is_there = True
    return is_there


def _copy(output: Any, stream: Any, packets: Iterator[Any]) -> Iterator[Any]:
    copied = output.add_stream_from_template(stream)
    for packet in packets:
        packet.stream = copied
        yield packet


def _transcode(output: Any, stream: Any, packets: Iterator[Any]) -> Iterator[Any]:
    """Encode as AAC, at the rate of the source where AAC has it, and of more than two channels a stereo mix."""
    import av

    decoder, is_there = stream.codec_context, False
    knows_rate = decoder.sample_rate in (av.Codec("aac", "w").audio_rates or [])
    encoder = output.add_stream("aac", rate=decoder.sample_rate if knows_rate else _RATE)
    encoder.codec_context.layout = "mono" if decoder.layout.nb_channels == 1 else "stereo"
    for packet in chain(packets, [None]):
        try:
            frames = decoder.decode(packet)
        except list_failures():
            continue  # players pass over a damaged packet too
        for frame in frames:
            is_there = True
            yield from encoder.encode(frame)
    if not is_there:
        raise ValueError("none of it can be decoded")
    yield from encoder.encode(None)


def _read_packets(container: Any, stream: Any, lost: list[str]) -> Iterator[Any]:
    """Yield the packets of the sound at rising times, counted from the first frame of the picture.

    Args:
        container: At its beginning.
        stream: Of the sound.
        lost: Takes a sentence on what is left out.
    """
    video = choose_video(container)
    start = round((video.start_time or 0) * video.time_base / stream.time_base) if video else 0
    last, num_back = None, 0
    try:
        for packet in to_the_end(container.demux(stream)):
            if packet.dts is None or packet.pts is None or packet.pts < start:
                continue
            if last is not None and packet.dts <= last:  # two recordings in one file: their pictures fall together too
                num_back += 1
                continue
            last = packet.dts
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
            yield packet
    except list_failures() as error:
        lost.append(f"its sound ends where the file is damaged: {tell_reason(error)}")
    if num_back:
        lost.append(f"its sound lacks the packets whose times go back: {num_back}")
