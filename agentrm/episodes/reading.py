"""Episodes out of files, one at a time, with what could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from agentrm.config.schema import Episodes
from agentrm.core.errors import InputRefused
from agentrm.episodes.columns import Columns
from agentrm.episodes.episode import Episode, Problem
from agentrm.episodes.forms import atif
from agentrm.episodes.forms.form import Form
from agentrm.episodes.recognise import named, recognised
from agentrm.episodes.records import records
from agentrm.episodes.sources import DAMAGED, Content, File, Opened, contents


def read(files: Iterable[File], settings: Episodes, required: bool = True) -> Iterator[Episode | Problem]:
    """The episodes of some files in their order, and a problem for each record or file that cannot be read. `required`:
    an episode without an outcome is a problem. Raises UserError for a form that is none.
    """
    form = named(settings.form) if settings.form else None
    columns = Columns(settings, required)
    for file in files:
        line = 0
        name = file.location
        try:
            for content in contents(file):
                if isinstance(content, Problem):
                    yield content
                    continue
                line, name = 0, content.name
                for result in _content(content, form, columns, file.source):
                    line = result.line
                    yield result
        except DAMAGED as error:
            told = str(error).splitlines()[0] if str(error) else "it ends too early"
            yield Problem(name, 0, f"cut short or damaged after line {line}: {told}")


def _content(content: Content, form: Form | None, columns: Columns, source: str) -> Iterator[Episode | Problem]:
    """The episodes of one file; its first record that fits says what form it is of."""
    for line, record in records(content.stream, content.name):
        try:
            if isinstance(record, ValueError):
                raise InputRefused(str(record))
            if not isinstance(record, Mapping):
                raise InputRefused("no object: a record has fields")
            form = form or recognised(record)
            if not form.fits(record):
                raise InputRefused(f"not of the form {form.name}, as the file is: give files of one form")
            if form is atif.FORM:
                record = atif.joined(record, partial(_document, content.beside))
            if content.trial is not None:
                record = {**record, atif.TRIAL: content.trial}
            for episode in form.read(record, columns):
                pair = episode.pair or (f"{content.name}:{line}" if episode.side else "")
                its_source = episode.source or source
                yield replace(episode, file=content.name, line=line, pair=pair, source=its_source, form=form.name)
        except InputRefused as error:
            yield Problem(content.name, line, str(error))


def _document(opened: Opened, name: str) -> Any:
    """The first record of a file. Raises InputRefused where there is none."""
    with opened(name) as stream:
        for _, record in records(stream, name):
            if isinstance(record, ValueError):
                raise InputRefused(str(record))
            return record
    raise InputRefused(f"{name} is empty")
