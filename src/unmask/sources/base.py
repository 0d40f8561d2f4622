"""The protocol of sources."""

from typing import Protocol, runtime_checkable

from unmask.errors import SourceError
from unmask.forgeries import Forgeries, SourceRecord
from unmask.types import Video


class Source(Protocol):
    """A raw dataset in its authors' layout.

    Constructors store and check their arguments; `list_videos` reads the folder.

    A source may have a property `forgeries`, of type `unmask.forgeries.Forgeries`, that tells who made its fakes, or a
    property `records`, of `SourceRecord`, that names the sources it mixes. Without either the origin of its fakes is
    unknown, and every model trained on it says so.
    """

    name: str

    def list_videos(self) -> list[Video]:
        """Return every video that the source lists, including those whose file is missing.

        Raises:
            SourceError: The folder is missing or in another layout; names what was expected and what was found.
        """
        ...


@runtime_checkable
class CreatedSource(Source, Protocol):
    """A source that makes its files before it lists them."""

    def create(self, *, num_workers: int) -> None:
        """Write the files that do not exist yet.

        Args:
            num_workers: Number of processes; 0 works in this one.
        """
        ...


def record_source(source: Source) -> tuple[SourceRecord, ...]:
    """Return the records of a source, or of the sources it mixes; call it after `list_videos`.

    Raises:
        SourceError: Its `forgeries` is not one of `Forgeries`.
    """
    records = tuple(getattr(source, "records", ()))
    if records:
        return records
    given = getattr(source, "forgeries", Forgeries.UNKNOWN)
    if given not in tuple(Forgeries):
        raise SourceError(
            f"Unknown value '{given}' in the property `forgeries` of source '{source.name}' ({type(source).__name__}). "
            f"Choose one of: {', '.join(Forgeries)}."
        )
    return (SourceRecord(source.name, Forgeries(given)),)
