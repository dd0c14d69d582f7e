"""The images below a folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from models.errors import DatasetInvalid
from service.scoring.columns import Columns
from service.scoring.row import Row

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif")


class Folder:
    """Every image in a folder and in those below it, by name; hidden ones and links to folders are passed over.

    Raises:
        DatasetInvalid: there is none.
    """

    columns = ("file",)
    chosen = Columns()

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self.count = sum(1 for _ in self._files(path))
        if not self.count:
            raise DatasetInvalid(f"is a folder without images ({', '.join(IMAGE_SUFFIXES)})", file=self.name)

    def rows(self) -> Generator[Row, None, None]:
        """A row for each image; its only column is its path below the folder."""
        for path in self._files(self._path):
            yield Row(cells={"file": path.relative_to(self._path).as_posix()}, item=path)

    def _files(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise DatasetInvalid(f"cannot be read: {error.strerror}", file=str(folder)) from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if not entry.is_symlink():
                    yield from self._files(entry)
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                yield entry
