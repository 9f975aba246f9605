"""The four PDDL domains in words: what facts and actions read like, and how a typed action is understood."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from agentrm.environments.pddl.engine import Atom
from agentrm.environments.pddl.reader import WORD

_PLACE = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Language:
    """One domain in words.

    `facts` and `actions` map a predicate or an action to a sentence whose <places> take its objects in PDDL's order;
    `aliases` are other first words of actions; `rules` tell the policy what it can do. `shows_changes`: after a step
    it reads the facts that became true, in place of all that are true.
    """

    rules: str
    facts: dict[str, str]
    actions: dict[str, str]
    shows_changes: bool
    aliases: dict[str, str] = field(default_factory=dict)

    def fact(self, atom: Atom) -> str:
        return _fill(self.facts[atom[0]], atom)

    def action(self, atom: Atom) -> str:
        return _fill(self.actions[atom[0]], atom)

    def understand(self, text: str, objects: frozenset[str], arity: dict[str, int]) -> Atom | str:
        """The action that a text names, or what is wrong with it.

        The first word that is an action counts, and the names of objects in their order; all other words are free.
        """
        words = WORD.findall(text.lower())
        verbs = [self.aliases.get(word, word) for word in words]
        verb = next((word for word in verbs if word in arity), None)
        if verb is None:
            return f"That is not an action. Actions are: {', '.join(self.actions)}."
        named = [word for word in words if word in objects][: arity[verb]]
        if len(named) < arity[verb]:
            return f"That action lacks some of its objects. Its form is: {self.actions[verb]}."
        return (verb, *named)


def _fill(sentence: str, atom: Atom) -> str:
    objects = iter(atom[1:])
    return _PLACE.sub(lambda _: next(objects), sentence)


GRIPPER = Language(
    rules=(
        "You are a robot that carries balls between rooms, one ball in each arm. You can move from any room to any "
        "other, pick up a ball in the room where you are with a free arm, and drop a ball that you carry there."
    ),
    facts={
        "room": "<place> is a room.",
        "ball": "<thing> is a ball.",
        "gripper": "<hand> is a gripper.",
        "at-robby": "Robby is at <place>.",
        "at": "<thing> is at <place>.",
        "free": "<hand> is free.",
        "carry": "<thing> is carried by <hand>.",
    },
    actions={
        "move": "move from <room> to <room>",
        "pick": "pick up <ball> at <room> with arm <arm>",
        "drop": "drop <ball> at <room> with arm <arm>",
    },
    shows_changes=False,
    aliases={"pickup": "pick", "putdown": "drop"},
)
BLOCKSWORLD = Language(
    rules=(
        "You have one arm and stack blocks on each other and on a table. With an empty arm you can pick up a clear "
        "block from the table, or unstack a clear block from another; a block that you hold you can put down on the "
        "table or stack on a clear block."
    ),
    facts={
        "on": "<upper> is on <lower>.",
        "on-table": "<block> is on the table.",
        "clear": "<block> is clear.",
        "holding": "You are holding <block>.",
        "arm-empty": "Your arm is empty.",
    },
    actions={
        "pickup": "pickup <block>",
        "putdown": "putdown <block>",
        "stack": "stack <block> on <block>",
        "unstack": "unstack <block> from <block>",
    },
    shows_changes=False,
    aliases={"pick": "pickup", "put": "putdown"},
)
BARMAN = Language(
    rules=(
        "You are a barman with two hands and serve drinks in shot glasses. A cocktail is mixed of its two parts in a "
        "shaker. To fill, refill or clean a shot glass, to clean the shaker or to shake, hold it in one hand and keep "
        "the other hand empty. A shot glass is filled only when empty and clean, and refilled with what was in it. "
        "Each part poured into the shaker raises its level by one; each cocktail poured out of it lowers it by one. A "
        "shaker takes new parts only when it is empty and clean."
    ),
    facts={
        "ontable": "<vessel> is on the table.",
        "holding": "<hand> hand is holding <vessel>.",
        "handempty": "<hand> hand is empty.",
        "empty": "<vessel> is empty.",
        "clean": "<vessel> is clean.",
        "contains": "<vessel> contains <drink>.",
        "used": "<vessel> was used for <drink>.",
        "dispenses": "<tap> dispenses <drink>.",
        "shaker-empty-level": "<shaker> has the empty level <level>.",
        "shaker-level": "<shaker> is at level <level>.",
        "next": "level <lower> is followed by level <upper>.",
        "unshaked": "<shaker> is unshaked.",
        "shaked": "<shaker> is shaked.",
        "cocktail-part1": "<cocktail> has the first part <drink>.",
        "cocktail-part2": "<cocktail> has the second part <drink>.",
    },
    actions={
        "grasp": "<hand> grasp <vessel>",
        "leave": "<hand> leave <vessel>",
        "fill-shot": "fill-shot glass <shot> with <ingredient> with <hand> and <empty hand> holding <dispenser>",
        "refill-shot": "refill-shot glass <shot> with <ingredient> with <hand> and <empty hand> holding <dispenser>",
        "empty-shot": "use hand <hand> to empty-shot glass <shot> with beverage <beverage>",
        "clean-shot": "clean-shot glass <shot> with <beverage> with hand <hand> holding shot glass and <empty hand>",
        "pour-shot-to-clean-shaker": "pour-shot-to-clean-shaker from a shot glass <shot> with <ingredient> to a clean "
        "shaker <shaker> with hand <hand> from level <level> to level <level>",
        "pour-shot-to-used-shaker": "pour-shot-to-used-shaker from a shot glass <shot> with <ingredient> to a used "
        "shaker <shaker> with hand <hand> from level <level> to level <level>",
        "empty-shaker": "use hand <hand> to empty-shaker <shaker> with <cocktail> from level <level> to level <level>",
        "clean-shaker": "use hand <hand> and hand <empty hand> to clean-shaker <shaker>",
        "shake": "shake a cocktail <cocktail> with ingredient <ingredient> and ingredient <ingredient> in a shaker "
        "<shaker> with hand <hand> and hand <empty hand>",
        "pour-shaker-to-shot": "pour-shaker-to-shot <beverage> to a shot glass <shot> with hand <hand> from shaker "
        "<shaker> from level <level> to level <level>",
    },
    shows_changes=True,
)
TYREWORLD = Language(
    rules=(
        "You replace the wheels of a car. Tools and spare wheels are in the boot: open it, fetch what you need, put it "
        "away. The nuts of a hub are loosened and tightened with the wrench while the hub is on the ground. With the "
        "jack you lift a hub; there you undo its nuts, remove the wheel, put on another and do the nuts up, and then "
        "jack the hub down. A wheel that is not flat for good is inflated with the pump."
    ),
    facts={
        "isopen": "<box> is open.",
        "closed": "<box> is closed.",
        "unlocked": "<box> is unlocked.",
        "have": "You have <thing>.",
        "in": "<thing> is in <box>.",
        "loose": "The nut <nut> on the hub <hub> is loose.",
        "tight": "The nut <nut> on the hub <hub> is tight.",
        "on-ground": "Hub <hub> is on the ground.",
        "not-on-ground": "Hub <hub> is not on the ground.",
        "fastened": "Hub <hub> is fastened.",
        "unfastened": "Hub <hub> is unfastened.",
        "free": "Hub <hub> is free.",
        "on": "<wheel> is on <hub>.",
        "inflated": "Wheel <wheel> is inflated.",
        "not-inflated": "Wheel <wheel> is not inflated.",
        "intact": "Wheel <wheel> is intact.",
    },
    actions={
        "open": "open <container>",
        "close": "close <container>",
        "fetch": "fetch <object> from <container>",
        "put-away": "put-away <object> in <container>",
        "loosen": "loosen the nut <nut> on the hub <hub>",
        "tighten": "tighten the nut <nut> on the hub <hub>",
        "jack-up": "jack-up the hub <hub>",
        "jack-down": "jack-down the hub <hub>",
        "undo": "undo the fastening of the nut <nut> on the hub <hub>",
        "do-up": "do-up the nut <nut> on the hub <hub>",
        "remove-wheel": "remove-wheel <wheel> from the hub <hub>",
        "put-on-wheel": "put-on-wheel <wheel> on the hub <hub>",
        "inflate": "inflate the wheel <wheel>",
    },
    shows_changes=True,
)
LANGUAGES = {"gripper": GRIPPER, "blocksworld": BLOCKSWORLD, "barman": BARMAN, "tyreworld": TYREWORLD}
