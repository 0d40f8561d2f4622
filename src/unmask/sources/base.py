"""What every source can do."""

from typing import Protocol, runtime_checkable

from unmask.types import Video


class Source(Protocol):
    """A raw dataset in its authors' layout.

    Constructors store and check their arguments; `list_videos` reads the folder.
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
