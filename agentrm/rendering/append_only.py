"""A chat template for reward models whose base's own rewrites earlier turns, or knows no tools.

Any template will do for a model whose head is trained on it; only policies must be asked as they were trained. This one
writes each message by itself: a state is a prefix of its successor's, and is read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrm.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEMPLATE = """{%- macro text(content) -%}
{%- if content is string -%}{{- content -}}
{%- else -%}{%- for part in content or [] -%}{{- part["text"] -}}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- if tools -%}
{{- "BEGINtools\\n" -}}
{%- for tool in tools -%}{{- tool | tojson -}}{{- "\\n" -}}{%- endfor -%}
{{- "END\\n" -}}
{%- endif -%}
{%- for message in messages -%}
{{- "BEGIN" + message["role"] + "\\n" -}}
{%- if message["reasoning_content"] -%}
{{- "<think>\\n" + message["reasoning_content"] + "\\n</think>\\n" -}}
{%- endif -%}
{{- text(message["content"]) -}}
{%- for call in message["tool_calls"] or [] -%}
{{- "\\n<tool_call>\\n" + call["function"]["name"] + " " -}}
{%- if call["function"]["arguments"] is string -%}{{- call["function"]["arguments"] -}}
{%- else -%}{{- call["function"]["arguments"] | tojson -}}{%- endif -%}
{{- "\\n</tool_call>" -}}
{%- endfor -%}
{{- "END\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "BEGINassistant\\n" -}}{%- endif -%}"""
_CHATML = "<|im_start|>", "<|im_end|>"


def append_only(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template, written with ChatML's tokens where the vocabulary has them, else with its own end of text. Raises
    UserError when it has neither.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if special.issuperset(_CHATML):
        begin, end = _CHATML
    elif tokenizer.eos_token:
        begin, end = "### ", tokenizer.eos_token
    else:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no token that ends a text: train.template=base")
    return _TEMPLATE.replace("BEGIN", begin).replace("END", end)
