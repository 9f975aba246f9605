"""Whether a configuration fits a described cluster: which actors go where, and what memory each takes there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from agentrm.cluster.demand import Group, groups
from agentrm.cluster.description import Description, NodeType
from agentrm.cluster.roles import Role
from agentrm.config.schema import Config

# Sums of thousandths.
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the answer: `what` of a stage goes `where` and needs so much of a `memory` that holds so much (GiB,
    None: not counted); `fault` names the key and the remedy where it does not fit.
    """

    stage: str
    what: str
    where: str
    memory: str = ""
    needs_gib: float | None = None
    has_gib: float | None = None
    fault: str = ""


def resolve(config: Config, cluster: Description) -> list[Row]:
    """All stages in order. As Ray does, places by CPUs, GPUs and roles alone: so memory must suffice on each node type
    that an actor may come to.
    """
    rows: list[Row] = []
    for _, stage in groupby(groups(config), key=lambda group: group.stage):
        asked = list(stage)
        placed = _Placement(cluster).place([group for group in asked if group.each])
        for group in asked:
            if group.each:
                rows += _rows(group, placed[group.number], cluster)
            elif group.host_gib:
                rows.append(_host(group, cluster.head_node_type, 1, cluster.head))
    return rows


def _rows(group: Group, nodes: list[str], cluster: Description) -> Iterator[Row]:
    what = f"{group.number}={group.least}" + (f" to {group.most}" if group.most > group.least else "")
    where = ", ".join(f"{nodes.count(name)} on {name}" for name in sorted(set(nodes))) or "nowhere"
    may = {name: node_type for name, node_type in cluster.available_node_types.items() if node_type.holds(group.each)}
    if fault := _short(group, len(nodes), may):
        yield Row(group.stage, what, where, fault=fault)
        return
    if not group.gpu_gib:
        yield Row(group.stage, what, where)
        return
    name = min(may, key=lambda node: may[node].labels.gpu_memory_gib)
    own, has = min(group.each["GPU"], 1), may[name].labels.gpu_memory_gib * group.share
    if group.share > own + _SLACK:
        fault = (
            f"{group.stage}: a replica takes {group.share:g} of the memory of a GPU of which it has {own:g}: "
            f"lower {group.key}.gpu_memory_utilization or raise {group.key}.gpus"
        )
    elif group.gpu_gib > has:
        fault = (
            f"{group.stage}: {group.number}={group.least} needs {group.gpu_gib:.1f} GiB of each GPU "
            f"and has {has:.1f} on {name}: {group.remedy}, or choose GPUs with more memory"
        )
    yield Row(group.stage, what, where, "each GPU", group.gpu_gib, has, fault)
    if group.host_gib:
        together = {name: min(group.least, node_type.holds(group.each)) for name, node_type in may.items()}
        worst = min(may, key=lambda node: may[node].memory_gib - together[node] * group.host_gib)
        yield _host(group, worst, together[worst], may[worst])


def _host(group: Group, name: str, together: int, node: NodeType) -> Row:
    needs, fault = together * group.host_gib, ""
    if needs > node.memory_gib:
        fault = (
            f"{group.stage} needs {needs:.1f} GiB of a machine's memory to load the model and has "
            f"{node.memory_gib:.1f} on {name}: choose a smaller model.source or machines with more memory"
        )
    what = f"{together} of them" if group.each else group.number
    return Row(group.stage, what, name, "machine", needs, node.memory_gib, fault)


def _short(group: Group, placed: int, may: dict[str, NodeType]) -> str:
    if placed >= group.least:
        return ""
    roles = {role.value for role in Role}
    asked = ", ".join(name if name in roles else f"{name} {amount:g}" for name, amount in group.each.items() if amount)
    if not may:
        return f"{group.stage}: no node type has what each of {group.number} asks for ({asked}): add one that has"
    return (
        f"{group.stage}: only {placed} of {group.number}={group.least} find room ({asked} each): lower {group.number} "
        f"or raise max_workers of {' or '.join(may)}"
    )


class _Node:
    """What is free on one node; GPUs one by one, for a share of a GPU is of one and whole ones are taken whole."""

    def __init__(self, name: str, kind: NodeType) -> None:
        self.name = name
        self.kind = kind
        self._free = {resource: amount for resource, amount in kind.resources.items() if resource != "GPU"}
        self._gpus = [1.0] * kind.gpus

    def take(self, asked: dict[str, float]) -> bool:
        """Take these resources, if there are so many."""
        gpus = asked.get("GPU", 0)
        count, share = max(1, int(gpus)), min(gpus, 1.0)
        free = [number for number, left in enumerate(self._gpus) if left + _SLACK >= share]
        others = {name: amount for name, amount in asked.items() if name != "GPU" and amount}
        if gpus and len(free) < count:
            return False
        if any(self._free.get(name, 0) + _SLACK < amount for name, amount in others.items()):
            return False
        for number in free[:count] if gpus else ():
            self._gpus[number] -= share
        for name, amount in others.items():
            self._free[name] -= amount
        return True


class _Placement:
    """Nodes that have come so far; new ones come when nothing is free, those with the fewest GPUs first."""

    def __init__(self, cluster: Description) -> None:
        self._cluster = cluster
        self._nodes = [_Node(cluster.head_node_type, cluster.head)]

    def place(self, stage: Sequence[Group]) -> dict[str, list[str]]:
        """The node types of each group's members, by its number: of the least of all first, then as they grow."""
        placed: dict[str, list[str]] = {group.number: [] for group in stage}
        for grows in (False, True):
            for group in stage:
                while len(placed[group.number]) < (group.most if grows else group.least):
                    name = self._put(group.each)
                    if name is None:
                        break
                    placed[group.number].append(name)
        return placed

    def _put(self, asked: dict[str, float]) -> str | None:
        for node in sorted(self._nodes, key=lambda node: node.kind.gpus):
            if node.take(asked):
                return node.name
        for name, kind in sorted(
            self._cluster.workers.items(), key=lambda item: (item[1].gpus, item[1].resources["CPU"])
        ):
            there = sum(node.name == name for node in self._nodes)
            if there < self._cluster.most(name) and len(self._nodes) <= self._cluster.max_workers:
                node = _Node(name, kind)
                if node.take(asked):
                    self._nodes.append(node)
                    return name
        return None
