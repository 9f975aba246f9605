"""The model card of an exported reward model: what it learned from, how, how good it is, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agentrm import __version__
from agentrm.config.schema import Config, RewardKind
from agentrm.config.values import to_yaml
from agentrm.evaluation.quality import UNSEEN
from agentrm.reports import quality_table

_HEADER = """---
library_name: transformers
pipeline_tag: {task}
tags: [agentrm, reward-model]
---

# A reward model for agents

{what} It was trained by [AgentRM](https://arxiv.org/abs/2502.18407) (version {version}) on the values of states in
search trees. Scores are raw: higher is better, without sigmoid or softmax.

## Use

```python
{use}
```

What is scored is a state: a conversation that alternates user and assistant turns and ends with the environment's
answer (user). Values were learned there, none at the end of the agent's turns.{counts}
"""

_COUNTS = " The chat template adds to each answer but the first turn how many actions were taken."

_EXPLICIT = (
    "text-classification",
    "A language model with one scalar head: the value of a state is its logit at the last token.",
    """from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForSequenceClassification.from_pretrained(path)
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
    task, what, use = _EXPLICIT if config.train.kind is RewardKind.explicit else _IMPLICIT
    if config.train.ensemble.members > 1:
        what += _ENSEMBLE.format(**asdict(config.train.ensemble))
    counts = _COUNTS if config.train.representation.action_count else ""
    quality = metrics["held_out"]
    tested = quality["all"]["trees"] if quality else 0
    sets = [
        f"- {each.environment}: {', '.join(each.kinds) or 'all kinds'}, {each.count} tasks of {each.split}"
        for each in config.tasks.trees
    ]
    lines = [
        _HEADER.format(task=task, what=what, version=__version__, use=use, counts=counts),
        "## Data",
        "",
        f"{metrics['states']:,} states of search trees that the policy `{config.model.source}` grew in",
        "",
        *sets,
        "",
        "## Figures",
        "",
        f"On {tested} trees of tasks that it did not learn from, and on those of kinds that it did not learn from "
        f"(`{UNSEEN}`), where there are any; 0.5 is chance, brackets are intervals over trees.",
        "",
        *_table([quality_table.HEADINGS, *quality_table.rows(quality)]),
        "",
        *(f"- {sentence}" for sentence in quality_table.verdicts(quality)),
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
