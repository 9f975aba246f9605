"""A conversation's messages, in OpenAI's form."""

from __future__ import annotations

Message = dict[str, str]
"""`role` and `content`."""
