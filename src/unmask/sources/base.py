"""What every source can do."""

from typing import Protocol, runtime_checkable

from unmask.errors import SourceError
from unmask.forgeries import Forgeries, SourceRecord
from unmask.types import Video


class Source(Protocol):
    """A raw dataset in its authors' layout.

    Constructors store and check their arguments; `list_videos` reads the folder.

    A source may say with a property `forgeries`, of `unmask.forgeries.Forgeries`, who made its fakes, or with a
    property `records`, of `SourceRecord`, which sources it mixes. Of one that does not, they are of unknown origin, and
    so every model that is trained on it says.
    """

    name: str

    def list_videos(self) -> list[Video]:
        """Return every video that the source promises, also those whose file is missing.

        Raises:
            SourceError: The folder is absent or laid out otherwise; says what was looked for and what was found.
        """
        ...


@runtime_checkable
class CreatedSource(Source, Protocol):
    """A source whose files we make ourselves before they can be listed."""

    def create(self, *, num_workers: int) -> None:
        """Write the files that are not there yet.

        Args:
            num_workers: Processes; 0 works in this one.
        """
        ...


def record_source(source: Source) -> tuple[SourceRecord, ...]:
    """Return what stays on record of a source, or of those that it mixes; call it after `list_videos`.

    Raises:
        SourceError: It says something else of its fakes than `Forgeries` knows.
    """
    records = tuple(getattr(source, "records", ()))
    if records:
        return records
    given = getattr(source, "forgeries", Forgeries.UNKNOWN)
    if given not in tuple(Forgeries):
        raise SourceError(
            f"The source '{source.name}' says of its fakes '{given}' (property forgeries of {type(source).__name__}). "
            f"Choose one of: {', '.join(Forgeries)}."
        )
    return (SourceRecord(source.name, Forgeries(given)),)
