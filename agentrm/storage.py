"""Files at locations: paths of this machine, or URIs of filesystems that pyarrow knows (`s3://`, `gs://`, `file://`).

Any name that a filesystem takes may be in a path, and in a URI as well: only %XX stands for another character there.
Libraries read models and tables from local paths: `fetch` brings what lies at a URI to this machine, once.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as fs
from platformdirs import user_cache_path

from agentrm.core.errors import UserError

Location = str | Path
"""A path, or a URI."""

_LOCAL = fs.LocalFileSystem()
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# Lies beside the files of a folder at a URI until the last of them is there: object stores cannot rename a folder.
_WRITING = ".writing"


def is_uri(location: Location) -> bool:
    """Whether a location is no path of this machine."""
    return _SCHEME.match(str(location)) is not None


def absolute(location: Location) -> str:
    """A path without `~` and independent of the current directory; a URI without the slash at its end."""
    if is_uri(location):
        return str(location).rstrip("/")
    path = Path(location)
    # A name may begin with ~ and be no user's.
    with suppress(RuntimeError):
        path = path.expanduser()
    return str(path.absolute())


def name(location: Location) -> str:
    """What a folder or a file is called."""
    last = absolute(location).rpartition("/")[2]
    return unquote(last) if is_uri(location) else last


def filesystem(location: Location) -> tuple[fs.FileSystem, str]:
    """The filesystem of a location, and the location's path in it. Raises UserError for one that cannot be reached."""
    text = str(location)
    # Bytes that are no UTF-8 reach Python as characters that cannot be encoded.
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise UserError(f"{text!r} cannot be a file's name: write it in UTF-8")
    if not is_uri(location):
        return _LOCAL, absolute(location)
    with reaching(location):
        return fs.FileSystem.from_uri(_encoded(text))


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Raise a UserError instead when the filesystem of a location refuses what the block asks of it."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, ImportError) as error:
        raise UserError(f"{location} cannot be reached: {str(error).splitlines()[0]}") from error


def _encoded(uri: str) -> str:
    """A URI whose path holds every character that a URI must write as %XX in that form."""
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{quote(re.sub('%(?![0-9A-Fa-f]{2})', '%25', path), safe='/%')}"


def names(location: Location) -> list[str]:
    """What a folder holds, sorted; nothing where there is no folder."""
    return sorted(info.base_name for info in _list(location, recursive=False))


def read_text(location: Location) -> str | None:
    """The text of a file, None where there is no file."""
    files, path = filesystem(location)
    try:
        with files.open_input_stream(path) as stream:
            return stream.read().decode()
    except FileNotFoundError:
        return None


def write_text(location: Location, text: str) -> None:
    """Write a file that is there whole or not at all."""
    files, path = filesystem(location)
    folder, _, name = path.rpartition("/")
    files.create_dir(folder, recursive=True)
    # Object stores show a file only once it is whole.
    local = isinstance(files, fs.LocalFileSystem)
    written = f"{folder}/.{name}.{uuid4().hex}{_WRITING}" if local else path
    with files.open_output_stream(written) as stream:
        stream.write(text.encode())
    if local:
        files.move(written, path)


@contextmanager
def writing(location: Location) -> Iterator[Path]:
    """A temporary folder on this machine that becomes `location` when the block ends without an error."""
    if is_uri(location):
        with tempfile.TemporaryDirectory(prefix="agentrm-") as temporary:
            yield Path(temporary)
            _copy_whole(temporary, location)
        return
    folder = Path(f"{location}{_WRITING}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    folder.rename(location)


def move(source: Location, target: Location) -> None:
    """Make a folder another one beside it, which is there whole or not at all."""
    if is_uri(target):
        _copy_whole(source, target)
        delete(source)
    else:
        Path(source).rename(target)


def _copy_whole(source: Location, target: Location) -> None:
    """Copy a folder to a URI, where it counts once it is whole."""
    delete(target)
    write_text(f"{target}/{_WRITING}", "")
    copy(source, target)
    files, path = filesystem(f"{target}/{_WRITING}")
    files.delete_file(path)


def finished(location: Location) -> bool:
    """Whether a folder is there, and whole."""
    if not is_uri(location):
        return Path(location).is_dir()
    entries = names(location)
    return bool(entries) and _WRITING not in entries


def copy(source: Location, target: Location) -> None:
    """Copy what a folder holds into another one, over files of the same names."""
    (origin, path), (destination, folder) = filesystem(source), filesystem(target)
    destination.create_dir(folder, recursive=True)
    fs.copy_files(path, folder, source_filesystem=origin, destination_filesystem=destination)


def delete(location: Location) -> None:
    """Delete a folder, if it is there."""
    files, path = filesystem(location)
    if files.get_file_info(path).type == fs.FileType.Directory:
        files.delete_dir(path)


def fetch(location: Location) -> Path:
    """A folder's files on this machine: itself, or a copy in the user's cache that later calls find again.

    A folder whose files have changed since is copied anew. What is not there is not there on this machine either.
    """
    if not is_uri(location):
        return Path(absolute(location))
    files, path = filesystem(location)
    listing = sorted((info.path, info.size, info.mtime_ns or 0) for info in _list(location, recursive=True))
    copied = cached(repr((str(location), listing)))
    if not listing or copied.is_dir():
        return copied
    copied.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_WRITING, dir=copied.parent))
    fs.copy_files(path, str(temporary), source_filesystem=files, destination_filesystem=_LOCAL)
    try:
        temporary.rename(copied)
    except OSError:  # another process was faster
        shutil.rmtree(temporary)
    return copied


def plain(directory: Path) -> Path:
    """The same folder on this machine under a path that nobody can take for a pattern of file names."""
    if glob.escape(str(directory)) == str(directory):
        return directory
    target = absolute(directory)
    link = cached(target)
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        link.symlink_to(target)
    return link


def identity(location: Location) -> str:
    """What tells a folder from those that lay at its location before: it is made with the first call, and deleted with
    the folder.
    """
    path = f"{location}/.identity"
    if read_text(path) is None:
        write_text(path, uuid4().hex)
    return read_text(path) or ""


def scratch(location: Location) -> Path:
    """A folder on this machine for files that outlive a process: the location itself, or one that stands for it."""
    folder = cached(f"{location} {identity(location)}") if is_uri(location) else Path(location)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached(key: str) -> Path:
    """The place in the user's cache of what was made of whatever `key` tells of; nothing need be there yet."""
    return user_cache_path("agentrm") / "storage" / blake2b(key.encode(), digest_size=16).hexdigest()


def _list(location: Location, recursive: bool) -> list[fs.FileInfo]:
    files, path = filesystem(location)
    infos = files.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))
    return [info for info in infos if not recursive or info.type == fs.FileType.File]
