"""Choose the streams of a file that players play."""

from typing import Any


def choose_video(container: Any) -> Any:
    """Return the video of a file: the one its container marks as the default, else the first; None without any.

    Covers, thumbnails and what only completes another stream are never it. A stream whose codec is unknown is it only
    where there is no other.

    Args:
        container: Of PyAV.
    """
    videos = [stream for stream in container.streams.video if not _is_beside(stream)]
    return _prefer_default(videos) if videos else None


def list_passed_over(chosen: Any) -> list[str]:
    """Say which images and videos of a file are not shown.

    Args:
        chosen: The video of that file.
    """
    others = [stream for stream in chosen.container.streams.video if stream.index != chosen.index]
    if not others:
        return []
    why = ", which the file marks as the default," if _is_default(chosen) else ""
    named = ", ".join(map(_describe, others))
    return [f"Of several images and videos in the file, the {_describe(chosen)}{why} was examined, not the {named}."]


def choose_sound(container: Any) -> Any:
    """Return the sound that players play; None where there is none in a known codec.

    Args:
        container: Of PyAV.
    """
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return _prefer_default(known) if known else None


def name_streams(container: Any) -> str:
    """Return what kinds of streams there are, for messages."""
    kinds = {
        "cover image" if stream.type == "video" and _is_beside(stream) else stream.type for stream in container.streams
    }
    return " and ".join(sorted(kinds)) or "no streams at all"


def _is_beside(stream: Any) -> bool:
    """Tell whether a video stream is an image beside the video: a cover, a thumbnail, a layer of another stream."""
    from av.stream import Disposition

    images = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
    return bool(stream.disposition & images)


def _prefer_default(streams: list[Any]) -> Any:
    known = [stream for stream in streams if stream.codec_context is not None]
    return max(known or streams, key=lambda stream: (_is_default(stream), -stream.index))


def _is_default(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.default)


def _describe(stream: Any) -> str:
    kind = "cover image" if _is_beside(stream) else "video"
    context = stream.codec_context
    size = f" ({context.width} x {context.height})" if context is not None and context.width else ""
    return f"{kind} in stream {stream.index}{size}"
