"""What a user must know beside the score: what was left out, and what a score cannot be trusted for."""

from collections.abc import Sequence

from unmask.inference.results import FaceResult, FrameResult

SMALL_FACE = 40
"""A face whose longer side has fewer pixels shows little of what a detector looks for. A rule of thumb of ours."""


def note_animation(is_animated: bool) -> list[str]:
    """Say that of an animation only the first picture was looked at."""
    return ["The file is an animation: only its first picture was looked at."] if is_animated else []


def note_crowd(most: int, *, max_faces: int, is_video: bool) -> list[str]:
    """Say that faces were left out.

    Args:
        most: Faces found in one frame, at most.
        max_faces: How many of a frame are scored.
        is_video: Whether there is more than one frame.
    """
    if most <= max_faces:
        return []
    found = f"Up to {most} faces were found in a frame" if is_video else f"{most} faces were found"
    return [f"{found}: only the {max_faces} largest were scored."]


def note_frames(*, asked: int, looked_at: int, planned: int, decoded: int) -> list[str]:
    """Say that frames of a video were left out.

    Args:
        asked: As many as the settings ask for.
        looked_at: As many as the limits let through.
        planned: As many as were to be decoded, with those of a closer search.
        decoded: As many as could be decoded.
    """
    notes = []
    if looked_at < asked:
        notes.append(f"{asked:,} frames were asked for: only {looked_at:,} of them, evenly spaced, were examined.")
    if decoded < planned:
        notes.append(f"{planned - decoded:,} of {planned:,} frames could not be decoded.")
    return notes


def note_search(frames: Sequence[FrameResult], *, num_asked: int, num_planned: int, num_frames: int) -> list[str]:
    """Say what was searched where the frames asked for showed no face, or too few to score it.

    Args:
        frames: Those that were examined.
        num_asked: Frames asked for, within the limits.
        num_planned: Frames to examine, with those of a closer search.
        num_frames: Frames in the file.
    """
    num_faces = sum(bool(frame.faces) for frame in frames)
    if not num_faces:
        said = f"No face was found in the {len(frames):,} of {num_frames:,} frames examined."
        if num_planned < num_frames:
            said += " One that is seen only between them was missed: raise limits.max_search to search more."
        return [said]
    if num_planned > num_asked:
        return [
            f"Too few of the frames asked for ({num_asked:,}) show a face, so {num_planned - num_asked:,} more were "
            f"examined: {num_faces:,} of all {len(frames):,} show one."
        ]
    return []


def note_small_faces(faces: Sequence[FaceResult]) -> list[str]:
    """Say that faces are so small that their scores say little."""
    sides = [max(face.box[2] - face.box[0], face.box[3] - face.box[1]) for face in faces]
    small = sum(side < SMALL_FACE for side in sides)
    if not small:
        return []
    which = "The face is" if len(faces) == 1 else f"{small} of {len(faces)} faces are"
    return [f"{which} smaller than {SMALL_FACE} pixels (the smallest {min(sides):.0f}): such a score says little."]
