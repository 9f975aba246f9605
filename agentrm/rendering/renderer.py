"""Conversations to token ids with the model's own chat template; nothing else in AgentRM builds prompts.

The ids are those of the template's whole text. Where it appends, a state's are a prefix of its successor's, so that
every engine can reuse its KV cache, and each step is rendered once. Where it rewrites, a state is a sequence of its
own.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrm.config.schema import Model, Overflow, Representation, Thinking
from agentrm.core.actions import ActionFormat, parse, render
from agentrm.core.errors import ContextOverflow, InputRefused, ModelError
from agentrm.core.messages import AGENT, Conversation, Message, Tool, runs, text_of
from agentrm.model_directory import VALUES, settings, write_settings
from agentrm.rendering.overflow import shortened
from agentrm.rendering.steps import WORDS, Key, Piece, Shape, Steps, key_of
from agentrm.rendering.template import ChatTemplate, fixed_day
from agentrm.rendering.tokens import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPRESENTATION = "agentrm_representation"
"""The key of a model's config.json that says which parts of a state it was trained on, where not on all."""

TEMPLATE = "agentrm_template"
"""The key that says how its chat template is used: the `settings` that it gets, and what becomes of `thinking`."""

OVERFLOW = "agentrm_overflow"
"""The key that says by which `rule` of `train.overflow` it reads what exceeds the `context` that it was trained with,
where it does not refuse it.
"""

COUNTING = """{%- set counted = namespace(messages=[], taken=0) -%}
{%- for message in messages -%}
{%- if message["role"] == "assistant" -%}
{%- set counted.taken = counted.taken + 1 -%}
{%- set counted.messages = counted.messages + [message] -%}
{%- elif counted.taken and message["content"] is string -%}
{%- set text = (message["content"] | trim ~ "\nActions taken: " ~ counted.taken) | trim -%}
{%- set counted.messages = counted.messages + [dict(message, content=text)] -%}
{%- else -%}
{%- set counted.messages = counted.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = counted.messages -%}
"""
"""What comes before the chat template of a model that reads how many actions were taken, so that any library which
renders a conversation by the template shows it the same text.
"""

_WORDS = "mark0mark"
_ANSWERED = Conversation([{"role": "user", "content": "go"}, {"role": AGENT, "content": _WORDS}])
_OPEN, _CLOSED = "<think>", "</think>"
_OPENINGS, _STEPS, _WALKS = 4096, 32768, 4096
"""How many are remembered."""

# A tokenizer keeps how it cuts from one call to the next, and texts are read in threads.
_ENCODING = threading.Lock()


def settle_template(tokenizer: PreTrainedTokenizerBase, counted: bool = False) -> None:
    """Let a model's template show the same on any day and in any library: a fixed date, and where `counted`, how many
    actions were taken.
    """

    def settled(template: str) -> str:
        return (COUNTING if counted else "") + fixed_day(template.removeprefix(COUNTING))

    own = tokenizer.chat_template
    if isinstance(own, dict):
        tokenizer.chat_template = {name: settled(template) for name, template in own.items()}
    elif own:
        tokenizer.chat_template = settled(own)


def settle_overflow(directory: Path, rule: Overflow, context: int) -> None:
    """Write into a model's config.json how it reads what exceeds its context, in place of what its base did."""
    config = {key: value for key, value in settings(directory).items() if key != OVERFLOW}
    declared = {} if rule is Overflow.refuse else {OVERFLOW: {"rule": rule.value, "context": context}}
    write_settings(directory, config | declared)


def _declared(directory: Path, config: Mapping[str, Any], context: int) -> tuple[Overflow, int]:
    """What `settle_overflow` wrote, and the context that conversations are to fit into. Raises ModelError."""
    match config.get(OVERFLOW):
        case None:
            return Overflow.refuse, context
        case {"rule": ("truncate_observations" | "drop_middle") as rule, "context": int() as learned} if learned > 0:
            return Overflow(rule), min(learned, context)
    raise ModelError(
        f"{OVERFLOW} in the config.json of {directory} needs a rule, truncate_observations or drop_middle, and a "
        "context, its length in tokens"
    )


def settle_use(directory: Path, model: Model) -> None:
    """Write into a model's config.json how its chat template is used, where a configuration says so."""
    if model.template_kwargs or model.thinking is not Thinking.template:
        use = {"settings": dict(model.template_kwargs), "thinking": model.thinking.value}
        write_settings(directory, settings(directory) | {TEMPLATE: use})


def read_alike(directories: Sequence[Path]) -> bool:
    """Whether the models in some directories read every conversation as the same ids."""

    def told(directory: Path) -> list[Any]:
        files = [directory / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")]
        config = settings(directory)
        keys = (REPRESENTATION, TEMPLATE, OVERFLOW, VALUES)
        return [file.read_bytes() if file.is_file() else b"" for file in files] + [config.get(key) for key in keys]

    first, *others = directories
    return not others or all(told(other) == told(first) for other in others)


@dataclass(frozen=True, slots=True)
class Rendered:
    """`ids` of a conversation; `agent[i]`: token i was written by the agent (end of turn included). `states[k]`: index
    of the last token of the state after k turns of the agent, `actions[k]` of that of turn k; None for what is no
    beginning of these ids, since the template changes it when more follows, or it is shortened. `left_out`: so many
    tokens the conversation has more than these.
    """

    ids: list[int]
    agent: list[bool]
    states: list[int | None]
    actions: list[int | None]
    left_out: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Tail:
    """The end of a conversation, from its last parting token on: the text, its ids, and what of it the agent wrote.

    A renderer makes one of equal ones, so that a cache finds it fast.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    written: tuple[tuple[int, int], ...] = ()


_START = _Tail()


class _Turn(NamedTuple):
    """What a step adds: ids that are final, and the new tail. `written`: the ranges of ids that the agent wrote, which
    may go on into the new tail; `appends`: the ids of the old tail begin this; `end`: index of the agent's last token.
    All count from the first id of the old tail.
    """

    ids: tuple[int, ...]
    written: list[tuple[int, int]]
    tail: _Tail
    appends: bool
    end: int


class _Walk(NamedTuple):
    """A conversation read step by step: what its opening and each step add, and its shape."""

    turns: list[_Turn]
    shape: Shape

    @property
    def tail(self) -> _Tail:
        """What is not final yet."""
        return self.turns[-1].tail

    def final(self) -> list[int]:
        """The ids before the tail's."""
        ids: list[int] = []
        for turn in self.turns:
            ids += turn.ids
        return ids


class Renderer:
    """Renders conversations as the tokenizer's chat template does, which gets `settings` beside them.

    `kept` says which parts of them (default: all), in turns written in `form`, and whether the actions are counted;
    what stands before the agent's first turn is always whole. `thinking`: what becomes of the agent's thoughts.
    `actions`: values of actions are read at the end of the agent's turn, where templates may write more. `overflow`:
    how conversations are read that exceed the context, but for a policy's. Raises ModelError when the tokenizer has no
    chat template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context: int,
        kept: Representation | None = None,
        form: ActionFormat = ActionFormat.react,
        settings: Mapping[str, Any] | None = None,
        thinking: Thinking = Thinking.template,
        actions: bool = False,
        overflow: Overflow = Overflow.refuse,
    ) -> None:
        if not tokenizer.chat_template:
            raise ModelError(f"the tokenizer of {tokenizer.name_or_path} has no chat template: save one with it")
        self.tokenizer = tokenizer
        self.context = context
        self._kept = kept or Representation()
        self._form = form
        self._thinking = thinking
        self._actions = actions
        self._overflow = overflow
        template = tokenizer.get_chat_template()
        if self._kept.action_count:
            template = template.removeprefix(COUNTING)
        self._tokens = Tokens(tokenizer)
        keeps = thinking is Thinking.keep
        self._template = ChatTemplate(tokenizer, fixed_day(template), self._tokens, settings or {}, keeps)
        self._steps = Steps(self._template, self._tokens)
        self._alters = self._kept != Representation() or thinking is Thinking.drop
        self._tail = lru_cache(maxsize=16384)(_Tail)
        self._counted = lru_cache(maxsize=32768)(_counted)
        self._tail_ids = lru_cache(maxsize=16384)(self._encoded)
        self._taken: dict[Any, tuple[Shape, _Turn]] = {}
        self._walks: dict[tuple[Key, str], _Walk] = {}
        self._begun: dict[Any, tuple[Shape, _Turn] | None] = {}
        self._offered: tuple[Sequence[Tool], str] = ((), "")
        self._closer: int | None = None
        self._missing: set[str] = set()

    @classmethod
    def from_pretrained(cls, path: str | Path, context: int) -> Renderer:
        """Load the tokenizer that lies in a Hugging Face directory, and how its model reads conversations. Raises
        ModelError when there is none.
        """
        # It takes seconds, which a command that is refused before it reads any text should not.
        from transformers import AutoTokenizer

        stored = settings(Path(path)) if Path(path, "config.json").is_file() else {}
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path))
        except (OSError, ValueError) as error:
            raise ModelError(f"no tokenizer in {path}: {str(error).splitlines()[0]}") from error
        parts = dict(stored.get(REPRESENTATION, {}))
        form = ActionFormat(parts.pop("action_format", ActionFormat.react))
        given = stored.get(TEMPLATE, {})
        thinking = Thinking(given.get("thinking", Thinking.template))
        actions = "action" in stored.get(VALUES, {}).get("at", ())
        overflow, context = _declared(Path(path), stored, context)
        use = given.get("settings"), thinking, actions, overflow
        return cls(tokenizer, context, Representation(**parts), form, *use)

    def render(self, given: Conversation | Sequence[Message]) -> Rendered:
        """A whole conversation. Raises ContextOverflow, and InputRefused where the template does not take it."""
        return self._render(self._shown(given))

    def cover(self, given: Conversation | Sequence[Message]) -> list[Rendered]:
        """The fewest sequences of which every state of a conversation is a beginning: one where the template appends.
        Each has the places of those states and actions alone that no earlier one has. A state that the template does
        not take has none; one that is shortened is a sequence of its own, and so is an action whose value is read.
        Raises as `render`.
        """
        conversation = self._shown(given)
        sequences = [self._render(conversation)]
        acted = self._actions_of_shortened(conversation, sequences[0])
        missing = {k for k, end in enumerate(sequences[0].states) if end is None}
        if conversation.messages[0]["role"] == AGENT:
            missing.discard(0)
        while missing:
            last = max(missing)
            missing.remove(last)
            with suppress(InputRefused):
                beginning = self._render(conversation.beginning(last))
                states = [end if k in missing or k == last else None for k, end in enumerate(beginning.states)]
                actions = [None, *beginning.actions]
                actions = [end if states[k] is not None else None for k, end in enumerate(actions)][1:]
                sequences.append(replace(beginning, states=states, actions=actions))
                missing -= {k for k, end in enumerate(states) if end is not None}
                acted += self._actions_of_shortened(conversation.beginning(last), beginning)
        return sequences + acted

    def _actions_of_shortened(self, conversation: Conversation, rendered: Rendered) -> list[Rendered]:
        """The last action of a state that was shortened, as it is read by itself."""
        *before, turn = (-1, *(n for n, message in enumerate(conversation.messages) if message["role"] == AGENT))
        if not (rendered.left_out and self._actions and before) or turn == len(conversation.messages) - 1:
            return []
        with suppress(ContextOverflow):
            alone = self._render(Conversation(conversation.messages[: turn + 1], conversation.tools))
            states: list[int | None] = [None] * len(alone.states)
            return [replace(alone, states=states, actions=[*[None] * (len(before) - 1), alone.actions[-1]])]
        return []

    def turns(self, given: Conversation | Sequence[Message]) -> list[Rendered]:
        """The fewest sequences in which each of the agent's turns stands behind what a policy is asked for it with, and
        ends as the last turn does: one where all do as they stand. Raises as `render`.
        """
        conversation = self._shown(given)
        count = len(runs(conversation.messages)[1])
        walk = self._walk(conversation)
        if walk is not None:
            rendered = self._closed(walk)
            if all(self._continues(conversation, rendered, k) for k in range(count)):
                self._fits(len(rendered.ids))
                return [rendered]
        return [self._turn_alone(conversation, k) for k in range(count)]

    def ids(self, given: Conversation | Sequence[Message]) -> list[int]:
        """The token ids of a conversation: what a reward model reads, its value at the last one. Raises as `render`."""
        return self.fitted(given)[0]

    def fitted(self, given: Conversation | Sequence[Message]) -> tuple[list[int], int]:
        """`ids`, and how many tokens of the conversation they lack since it exceeds the context. Raises as `render`."""
        conversation = self._shown(given)
        if self._actions and conversation.messages[-1]["role"] == AGENT:
            rendered = self._render(conversation)
            end = rendered.actions[-1]
            return rendered.ids if end is None else rendered.ids[: end + 1], rendered.left_out
        ids = self._whole_ids(conversation)
        if len(ids) <= self.context:
            return ids, 0
        rendered = self._shortened(conversation, len(ids))
        return rendered.ids, rendered.left_out

    def text_ids(self, text: str, special: bool, limit: int | None = None) -> list[int]:
        """The ids of text that was rendered elsewhere; with `special` the tokenizer adds its own around it. It cuts
        what is longer than `limit` tokens, none of its own where that leaves any others.
        """
        with _ENCODING:
            return self.tokenizer.encode(
                text,
                add_special_tokens=special,
                split_special_tokens=False,
                truncation=limit is not None,
                max_length=limit,
            )

    def prompt(self, given: Conversation | Sequence[Message]) -> list[int]:
        """The ids of a state and the opening of the agent's turn: what a policy continues. Raises as `render`."""
        ids = self._prompt(self._shown(given))
        self._fits(len(ids) + 1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn, without thoughts that are told apart from it."""
        return self.said(ids)[0]

    def said(self, ids: Sequence[int]) -> tuple[str, str]:
        """The text of a sampled turn, and the thoughts that stand before it as the template has them."""
        written, thoughts = self.parted(ids)
        if thoughts is None:
            return self.tokenizer.decode(ids, skip_special_tokens=True).strip(), ""
        return self.bare(written), self.bare(thoughts).replace(_OPEN, "").strip()

    def parted(self, ids: Sequence[int]) -> tuple[str, str | None]:
        """A sampled turn behind its thoughts, and these where it has any: both as written, special tokens and all."""
        written = self.tokenizer.decode(ids, skip_special_tokens=False)
        lead = next((text for text in (self._lead, _CLOSED) if text and text in written), None)
        if lead is None:
            return written, None
        thoughts, _, written = written.rpartition(lead)
        return written, thoughts.removesuffix(self._asks)

    def bare(self, text: str) -> str:
        """Text that was written without the special tokens in it."""
        return self._tokens.bare(text).strip()

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end an agent's turn. Raises ModelError when none does, or when what a policy writes that
        writes turns as the template does would be read as something else.
        """
        said = self.decode(self._encoded(_WORDS))
        try:
            turn = self._turn_alone(_ANSWERED, 0)
        except InputRefused as error:
            raise self._refusal(f"shows no answer: {error}") from error
        *words, end = [token for token, written in zip(turn.ids, turn.agent, strict=True) if written]
        if end not in self._tokens.ids.values():
            raise self._refusal("ends an answer with no token of its own, so a policy would not stop")
        if self.decode(words) != said:
            raise self._refusal(f"adds to an answer: a policy that says {said!r} would say {self.decode(words)!r}")
        return [end]

    @cached_property
    def _asks(self) -> str:
        """What asks for a turn, which a policy itself writes between its thoughts and the answer."""
        with suppress(InputRefused):
            state = self._text(Conversation(_ANSWERED.messages[:1]))
            return self._tokens.plain(self._asked_and_turn(_ANSWERED, 0)[0].removeprefix(state))
        return ""

    @cached_property
    def _lead(self) -> str:
        """What stands before the words of an answer, where that is more than was asked for."""
        with suppress(InputRefused):
            return self._tokens.plain(self._asked_and_turn(_ANSWERED, 0)[1].partition(_WORDS)[0]).strip()
        return ""

    def check_policy(self) -> None:
        """Raise ModelError unless a policy can be prompted by the template."""
        _ = self.stop_ids

    def _fits(self, length: int) -> None:
        if length > self.context:
            raise ContextOverflow(
                f"the conversation has {length} tokens, the model's context is {self.context}: raise model.context"
            )

    def _refusal(self, what: str) -> ModelError:
        return ModelError(f"the chat template of {self.tokenizer.name_or_path} {what}")

    def _render(self, conversation: Conversation) -> Rendered:
        rendered = self._whole(conversation)
        return rendered if len(rendered.ids) <= self.context else self._shortened(conversation, len(rendered.ids))

    def _whole(self, conversation: Conversation) -> Rendered:
        walk = self._walk(conversation)
        return self._by_states(conversation) if walk is None else self._closed(walk)

    def _whole_ids(self, conversation: Conversation) -> list[int]:
        walk = self._walk(conversation)
        return self._encoded(self._text(conversation)) if walk is None else [*walk.final(), *walk.tail.ids]

    def _shortened(self, conversation: Conversation, length: int) -> Rendered:
        """A conversation of `length` tokens as the rule for what exceeds the context leaves it."""

        def fits(beginning: Conversation) -> bool:
            # What the template does not take is no way to shorten it.
            with suppress(InputRefused):
                return len(self._whole_ids(beginning)) <= self.context
            return False

        shorter = shortened(conversation, self._overflow, fits)
        if shorter is None:
            self._fits(length)
            raise AssertionError("what fits is not shortened")
        rendered = self._whole(shorter)
        count = len(runs(conversation.messages)[1])
        states: list[int | None] = [*[None] * count, rendered.states[-1]]
        actions: list[int | None] = [None] * count
        if conversation.messages[-1]["role"] == AGENT:
            actions[-1] = rendered.actions[-1]
        return replace(rendered, states=states, actions=actions, left_out=length - len(rendered.ids))

    def _closed(self, walk: _Walk) -> Rendered:
        """All of a conversation that was read step by step."""
        ids: list[int] = []
        said: list[tuple[int, int]] = []
        states: list[int | None] = []
        actions: list[int | None] = []
        for number, turn in enumerate(walk.turns):
            if not turn.appends:
                states = [end if (end or 0) < len(ids) else None for end in states]
                actions = [end if (end or 0) < len(ids) else None for end in actions]
            if number:
                actions.append(len(ids) + turn.end)
            start = len(ids)
            ids += turn.ids
            said += [(start + first, min(start + after, len(ids))) for first, after in turn.written]
            states.append(len(ids) + len(turn.tail.ids) - 1)
        tail = walk.tail
        if tail.written:
            written = self._tokens.encoded(tail.text, tail.written).written
            said += [(len(ids) + first, len(ids) + after) for first, after in written]
        ids += tail.ids
        return Rendered(ids, _flags(len(ids), said), states, actions)

    def _walk(self, conversation: Conversation) -> _Walk | None:
        """A conversation step by step; None where its template writes it otherwise."""
        key = key_of(conversation.messages)
        offered = self._named(conversation.tools)
        walk = self._walks.get((key, offered))
        if walk is None and (walk := self._step_by_step(conversation, key, offered)) is not None:
            if len(self._walks) >= _WALKS:
                self._walks = {}
            self._walks[key, offered] = walk
        return walk

    def _step_by_step(self, conversation: Conversation, key: Key, offered: str) -> _Walk | None:
        messages = conversation.messages
        count = place = len(messages)
        while place and messages[place - 1]["role"] != AGENT:
            place -= 1
        # Most conversations are one step longer than one that was read before.
        known = self._walks.get((key[: WORDS * (place - 1)], offered)) if place else None
        if known is not None:
            place -= 1
            shape, turns = known.shape, [*known.turns]
        else:
            place = next((i for i, message in enumerate(messages) if message["role"] == AGENT), count)
            begun = self._begin(list(messages[:place]), conversation.tools, (key[: WORDS * place], offered))
            if begun is None:
                return None
            shape, turns = begun[0], [begun[1]]
        while place < count:
            end = place + 1
            while end < count and messages[end]["role"] != AGENT:
                end += 1
            step = shape, turns[-1].tail, key[WORDS * place : WORDS * end], len(turns).bit_length()
            taken = self._taken.get(step)
            if taken is None:
                followed = self._steps.follow(shape, messages, place, end, len(turns))
                if followed is None:
                    return None
                if len(self._taken) >= _STEPS:
                    self._taken = {}
                taken = self._taken[step] = followed[0], self._add(turns[-1].tail, followed[1])
            shape, turn = taken
            turns.append(turn)
            place = end
        return _Walk(turns, shape)

    def _begin(self, opening: list[Message], tools: Sequence[Tool], key: tuple[Key, str]) -> tuple[Shape, _Turn] | None:
        remembered = self._begun
        if key in remembered:
            return remembered[key]
        begun = None
        with suppress(InputRefused):
            if (read := self._steps.begin(opening, tools, key[1])) is not None:
                shape, text = read
                self._warn_of_what_is_missing(text, opening, tools)
                begun = shape, self._add(_START, Piece(text, 0, 0))
        if len(self._begun) >= _OPENINGS:
            self._begun = {}
        self._begun[key] = begun
        return begun

    def _named(self, tools: Sequence[Tool]) -> str:
        """What tells tools apart; those of the last call are known again, unless they are a list, which may change."""
        known, named = self._offered
        if tools is not known:
            named = json.dumps(list(tools), sort_keys=True) if tools else ""
            if isinstance(tools, tuple):
                # At once: texts are read in threads.
                self._offered = tools, named
        return named

    def _add(self, tail: _Tail, piece: Piece) -> _Turn:
        whole = tail.text + piece.text
        shift = len(tail.text)
        written = (*tail.written, (shift + piece.begin, shift + piece.end))
        ids, marks, cut, settled = self._tokens.encoded(whole, written)
        still_open = tuple((max(begin - cut, 0), behind - cut) for begin, behind in written if behind > cut)
        appends = tuple(ids[: len(tail.ids)]) == tail.ids
        following = self._tail(whole[cut:], tuple(ids[settled:]), still_open)
        return _Turn(tuple(ids[:settled]), marks, following, appends, marks[-1][1] - 1)

    def _encoded(self, text: str) -> list[int]:
        return self._tokens.encoded(text).ids

    def _text(self, conversation: Conversation, *, opened: bool = False) -> str:
        return self._template.text(conversation.messages, conversation.tools, opened=opened)

    def _by_states(self, conversation: Conversation) -> Rendered:
        """A conversation whose template changes what is there when more follows: each state is compared with it."""
        text = self._text(conversation)
        self._warn_of_what_is_missing(text, conversation.messages, conversation.tools)
        ids, written, *_ = self._tokens.encoded(text, self._steps.written(text, conversation.messages))
        ends = [after - 1 for _, after in written]
        states: list[int | None] = []
        for number in range(len(ends)):
            state: list[int] = []
            beginning = conversation.beginning(number)
            with suppress(InputRefused):
                state = self._encoded(self._text(beginning)) if beginning.messages else []
            states.append(len(state) - 1 if state and ids[: len(state)] == state else None)
        states.append(len(ids) - 1)
        actions = [None if after is None else end for end, after in zip(ends, states[1:], strict=True)]
        return Rendered(ids, _flags(len(ids), written), states, actions)

    def _prompt(self, conversation: Conversation) -> list[int]:
        walk = self._walk(conversation)
        if walk is not None:
            opening = self._steps.opening(walk.shape, conversation.messages)
            if opening is not None:
                return [*walk.final(), *self._tail_ids(walk.tail.text + opening)]
        return self._encoded(self._text(conversation, opened=True))

    def _continues(self, conversation: Conversation, rendered: Rendered, number: int) -> bool:
        """Whether a turn stands behind what a policy is asked for it with, and ends as the last one does."""
        end = rendered.actions[number]
        if end is None or not self._closes(rendered.ids[end]):
            return False
        prompt = self._prompt(conversation.beginning(number))
        return rendered.ids[: len(prompt)] == prompt

    def _closes(self, token: int) -> bool:
        if self._closer is None:
            with suppress(ModelError):
                (self._closer,) = self.stop_ids
        return self._closer is None or token == self._closer

    def _turn_alone(self, conversation: Conversation, number: int) -> Rendered:
        """One of the agent's turns as the last of its conversation."""
        asked, turn = self._asked_and_turn(conversation, number)
        ids, written, *_ = self._tokens.encoded(asked + turn, [(len(asked), len(asked + turn))])
        self._fits(len(ids))
        return Rendered(ids, _flags(len(ids), written), [], [])

    def _asked_and_turn(self, conversation: Conversation, number: int) -> tuple[str, str]:
        """What a policy is asked for a turn with, and what it is to write."""
        state = conversation.beginning(number)
        asked = self._text(state, opened=True)
        whole = self._text(Conversation(conversation.messages[: len(state.messages) + 1], state.tools))
        turn = whole[self._tokens.common(whole, asked) :]
        if not whole.startswith(asked) and asked.rfind(_OPEN) > asked.rfind(_CLOSED):
            turn = f"\n{_CLOSED}\n\n{turn}"
        return asked, turn[: self._tokens.last_special(turn, 0, len(turn)) or len(turn)]

    def _shown(self, given: Conversation | Sequence[Message]) -> Conversation:
        """A conversation as the model is to see it."""
        conversation = Conversation.of(given)
        if not self._alters:
            return conversation
        taken, shown = 0, []
        for message in conversation.messages:
            if message["role"] == AGENT:
                taken += 1
                shown.append(self._shown_turn(message))
            else:
                shown.append(self._shown_answer(message, taken) if taken else message)
        return Conversation(shown, conversation.tools)

    def _shown_turn(self, message: Message) -> Message:
        kept = self._kept
        message = dict(message)
        if self._thinking is Thinking.drop or not kept.thoughts:
            message.pop("reasoning_content", None)
        if kept.thoughts and kept.actions:
            return message
        thought, action, _ = parse(text_of(message), self._form)
        if "tool_calls" in message:
            thought = text_of(message)
        if not kept.actions:
            message.pop("tool_calls", None)
            message["content"] = thought if kept.thoughts else ""
        elif "tool_calls" in message:
            message["content"] = None
        else:
            message["content"] = render("", action, self._form)
        return message

    def _shown_answer(self, message: Message, taken: int) -> Message:
        text = text_of(message) if self._kept.observations else ""
        if self._kept.action_count:
            text = self._counted(text, taken)
        return {"role": message["role"], "content": text} if len(message) == 2 else message | {"content": text}

    def _warn_of_what_is_missing(self, text: str, messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        """Say once what a template leaves out of conversations."""
        calls = [call["function"]["name"] for message in messages for call in message.get("tool_calls", ())]
        for what, names in (("tools", [tool["function"]["name"] for tool in tools]), ("calls of tools", calls)):
            if names and names[0] not in text and what not in self._missing:
                self._missing.add(what)
                warnings.warn(f"the chat template of {self.tokenizer.name_or_path} shows no {what}", stacklevel=2)


def _counted(text: str, taken: int) -> str:
    return f"{text.strip()}\nActions taken: {taken}".strip()


def _flags(count: int, ranges: Sequence[tuple[int, int]]) -> list[bool]:
    """Of so many ids, whether each lies in one of some ranges."""
    flags = [False] * count
    for first, after in ranges:
        flags[first:after] = [True] * (after - first)
    return flags
