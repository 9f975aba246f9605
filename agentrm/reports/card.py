"""The model card of an exported reward model: what it learned from, how, how good it is, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agentrm import __version__
from agentrm.config.schema import Config, End, Loss, Overflow, RewardKind, Target
from agentrm.config.values import to_yaml
from agentrm.evaluation.quality import UNSEEN
from agentrm.reports import quality_table

_HEADER = """---
library_name: transformers
pipeline_tag: {task}
tags: [agentrm, reward-model]
---

# A reward model for agents

{what} It was trained by [AgentRM](https://arxiv.org/abs/2502.18407) (version {version}) on {learned} in trees of
episodes. Scores are raw: higher is better, without sigmoid or softmax. {meaning}

## Use

```python
{use}
```

{ends}{counts}
"""

_STATES = "a state, a conversation that ends with the environment's answer (a turn of the user or of a tool)"
_ACTIONS = "an action in a state, a conversation that ends with the agent's turn, read at the last token of that turn"
_ENDS = {
    frozenset({End.state}): f"What is scored is {_STATES}. No value was learned at the end of the agent's turns.",
    frozenset(
        {End.action}
    ): f"What is scored is {_ACTIONS}. No value was learned at the end of the environment's turns.",
    frozenset(End): f"What is scored is {_STATES}, or {_ACTIONS}.",
}

_LEARNED = {
    Target.values: "the values of {what}, the mean outcome of what followed,",
    Target.outcomes: "the outcomes of episodes",
    Target.progress: "the progress that episodes ended with",
    Target.steps: "what was said of single turns of the agent",
}

_MEANING = {
    Loss.squared: "A score estimates what was learned, from 0 to 1, and may lie outside a little.",
    Loss.cross_entropy: "A score is a logit: its sigmoid estimates what was learned, from 0 to 1.",
    Loss.bradley_terry: "Only differences of scores mean something: the sigmoid of the difference of two is the "
    "probability that the first is the better one.",
}
_CALIBRATED = (
    " `calibration.json` turns scores into probabilities of success, by a line through its points (`values`, "
    "`probabilities`): `numpy.interp(score, values, probabilities)`."
)

_COUNTS = " The chat template adds to each answer but the first turn how many actions were taken."

_OVERFLOW = {
    Overflow.refuse: " A conversation longer than the context of {context} tokens has no score.",
    Overflow.truncate_observations: " Of a conversation longer than the context of {context} tokens, AgentRM reads the "
    "environment's answers cut in their middle, all to one length, the longest that fits.",
    Overflow.drop_middle: " Of a conversation longer than the context of {context} tokens, AgentRM leaves out the "
    "agent's earliest turns with the answers to them, as few as it has to, and says so where they stood.",
}

_EXPLICIT = (
    "text-classification",
    "A language model with one scalar head: the value of a state is its logit at the last token.",
    """from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForSequenceClassification.from_pretrained(path)
ids = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True)
score = model(**ids).logits[0, 0].item()""",
)
_ADAPTER = (
    "text-classification",
    "An adapter in PEFT's form for the base that `adapter_config.json` names, with one scalar head: the value of a "
    "state is its logit at the last token.",
    """from pathlib import Path
from transformers import AutoTokenizer
from agentrm.models import adapters

tokenizer = AutoTokenizer.from_pretrained(path)
model = adapters.load(Path(path))  # merged into its base
ids = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True)
score = model(**ids).logits[0, 0].item()""",
)
_IMPLICIT = (
    "text-generation",
    "A causal language model: the value of a state is beta times the log-probability ratio of the agent's turns to the "
    "reference policy that `config.json` names.",
    """import asyncio
from pathlib import Path
from agentrm.models.implicit import load

scores = asyncio.run(load(Path(path), context).score(states))""",
)

_ENSEMBLE = (
    " This is the first of an ensemble's {members} members, the others lie beneath `members/`: AgentRM scores by the "
    "mean of all minus {penalty:g} standard deviations, other libraries by the first alone."
)


def card(config: Config, metrics: Mapping[str, Any]) -> str:
    """The Markdown of the card; `metrics` are those of `agentrm train`."""
    explicit = _ADAPTER if config.train.lora.keep else _EXPLICIT
    task, what, use = explicit if config.train.kind is RewardKind.explicit else _IMPLICIT
    if config.train.ensemble.members > 1:
        what += _ENSEMBLE.format(**asdict(config.train.ensemble))
    counts = _COUNTS if config.train.representation.action_count else ""
    labels = config.train.labels
    at = " and ".join(f"{end.value}s" for end in labels.at)
    quality = metrics["held_out"]
    tested = quality["all"]["trees"] if quality else 0
    head = _HEADER.format(
        task=task,
        what=what,
        version=__version__,
        use=use,
        learned=_LEARNED[labels.of].format(what=at),
        meaning=(_MEANING[config.train.loss] if config.train.kind is RewardKind.explicit else "") + _CALIBRATED,
        ends=_ENDS[frozenset(labels.at)],
        counts=counts + _OVERFLOW[config.train.overflow].format(context=config.model.context),
    )
    lines = [
        head,
        "## Data",
        "",
        f"{metrics['states']:,} labels of {at} in trees of",
        "",
        *(f"- {kind}: {count:,} trees" for kind, count in metrics["trees_learned"].items()),
        "",
        "## Figures",
        "",
        f"On {tested} trees of tasks that it did not learn from, and on those of kinds that it did not learn from "
        f"(`{UNSEEN}`), where there are any; 0.5 is chance, brackets are intervals over trees.",
        "",
        *_table([quality_table.HEADINGS, *quality_table.rows(quality)]),
        "",
        *(f"- {sentence}" for sentence in [*quality_table.probabilities(quality), *quality_table.verdicts(quality)]),
        "",
        "## Configuration",
        "",
        "```yaml",
        to_yaml(config.train).strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    marked = [[f"**{cell}**" if cell and quality_table.is_judged(row) else cell for cell in row] for row in body]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *marked)]
