"""Questions about papers and authors. Each template makes the calls that answer it; returns the goal and the answer."""

from __future__ import annotations

from random import Random
from typing import Any

from agentrm.environments.tools.reference import Question, Reference, Template, Unfit, best, some

MOST_NEIGHBOURS = 6


def _papers(call: Reference, random: Random, count: int) -> list[str]:
    return random.sample(call.toolkit.values()["node"][: _paper_count(call)], count)


def _authors(call: Reference, random: Random, count: int) -> list[str]:
    return random.sample(call.toolkit.values()["node"][_paper_count(call) :], count)


def _paper_count(call: Reference) -> int:
    return call.toolkit.values()["graph"].count("PaperNet")


def _paper(call: Reference, title: str) -> dict[str, Any]:
    return call("paperNodeCheck", node=title)


def _neighbours(call: Reference, graph: str, node: str) -> list[str]:
    neighbours = some(call("neighbourCheck", graph=graph, node=node))
    if len(neighbours) > MOST_NEIGHBOURS:
        raise Unfit
    return neighbours


def _pair(call: Reference, random: Random) -> tuple[str, str]:
    """Two authors who wrote together."""
    (one,) = _authors(call, random, 1)
    call.toolkit.run("loadAuthorNet", {})
    return one, random.choice(some(call.toolkit.run("neighbourCheck", {"graph": "AuthorNet", "node": one})))


def _fact(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    (title,) = _papers(call, random, 1)
    text, key = random.choice(
        (
            ("At which venue was the paper {} published?", "venue"),
            ("What are the keywords of the paper {}?", "keywords"),
            ("Who are the authors of the paper {}?", "authors"),
        )
    )
    return text.format(f'"{title}"'), _paper(call, title)[key]


def _total_citations(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    titles = _papers(call, random, 3)
    total = sum(_paper(call, title)["n_citation"] for title in titles)
    return f'How many citations do "{titles[0]}", "{titles[1]}" and "{titles[2]}" have in total?', total


def _superlative(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    titles = _papers(call, random, 3)
    word, key, least = random.choice(
        (("is cited most", "n_citation", False), ("is cited least", "n_citation", True), ("is oldest", "year", True))
    )
    values = {title: _paper(call, title)[key] for title in titles}
    goal = f'Which of the papers "{titles[0]}", "{titles[1]}" and "{titles[2]}" {word}?'
    return goal, best(titles, values.__getitem__, least=least)


def _collaborators(call: Reference, random: Random) -> Question:
    call("loadAuthorNet")
    (name,) = _authors(call, random, 1)
    authors = _neighbours(call, "AuthorNet", name)
    if random.random() < 0.5:
        return f"With how many different authors has {name} written papers?", len(authors)
    return f"Who has written papers together with {name}?", authors


def _joint_papers(call: Reference, random: Random) -> Question:
    one, other = _pair(call, random)
    call("loadAuthorNet")
    titles = call("authorEdgeCheck", node1=one, node2=other)
    return f"Which papers did {one} and {other} write together?", titles


def _best_joint_paper(call: Reference, random: Random) -> Question:
    one, other = _pair(call, random)
    call("loadAuthorNet")
    titles = call("authorEdgeCheck", node1=one, node2=other)
    if len(titles) < 2:
        raise Unfit
    call("loadPaperNet")
    citations = {title: _paper(call, title)["n_citation"] for title in titles}
    goal = f"Which of the papers that {one} and {other} wrote together has the most citations?"
    return goal, best(titles, citations.__getitem__)


def _venue_of_joint_papers(call: Reference, random: Random) -> Question:
    one, other = _pair(call, random)
    call("loadAuthorNet")
    titles = call("authorEdgeCheck", node1=one, node2=other)
    call("loadPaperNet")
    venues = dict.fromkeys(_paper(call, title)["venue"] for title in titles)
    return f"At which venues did {one} and {other} publish together?", list(venues)


def _citations_of_joint_papers(call: Reference, random: Random) -> Question:
    one, other = _pair(call, random)
    call("loadAuthorNet")
    titles = call("authorEdgeCheck", node1=one, node2=other)
    call("loadPaperNet")
    total = sum(_paper(call, title)["n_citation"] for title in titles)
    return f"How many citations do the papers that {one} and {other} wrote together have in total?", total


def _collaborators_at(call: Reference, random: Random) -> Question:
    call("loadAuthorNet")
    (name,) = _authors(call, random, 1)
    homes = {other: call("authorNodeCheck", node=other)["org"] for other in _neighbours(call, "AuthorNet", name)}
    place = random.choice(list(homes.values()))
    answer = [other for other, home in homes.items() if home == place]
    return f"Which co-authors of {name} work at the {place}?", answer


def _home_of_author(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    (title,) = _papers(call, random, 1)
    position, word = random.choice(((0, "first"), (-1, "last")))
    author = _paper(call, title)["authors"][position]
    call("loadAuthorNet")
    goal = f'To which organisation does the {word} author of "{title}" belong?'
    return goal, call("authorNodeCheck", node=author)["org"]


def _neighbour_superlative(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    (title,) = _papers(call, random, 1)
    titles = _neighbours(call, "PaperNet", title)
    if len(titles) < 2:
        raise Unfit
    word, key, least = random.choice(
        (("most cited", "n_citation", False), ("oldest", "year", True), ("newest", "year", False))
    )
    values = {other: _paper(call, other)[key] for other in titles}
    goal = f'Which is the {word} of the papers that cite "{title}" or that it cites?'
    return goal, best(titles, values.__getitem__, least=least)


def _shared_neighbours(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    titles = _papers(call, random, 2)
    one, other = (_neighbours(call, "PaperNet", title) for title in titles)
    answer = some(title for title in one if title in other)
    return f'Which papers are connected in PaperNet with both "{titles[0]}" and "{titles[1]}"?', answer


def _shared_collaborators(call: Reference, random: Random) -> Question:
    call("loadAuthorNet")
    people = _authors(call, random, 2)
    one, other = (_neighbours(call, "AuthorNet", name) for name in people)
    answer = some(name for name in one if name in other)
    return f"Which authors have written papers with {people[0]} and also papers with {people[1]}?", answer


def _shared_keywords(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    titles = _papers(call, random, 2)
    one, other = (_paper(call, title)["keywords"] for title in titles)
    answer = some(word for word in one if word in other)
    return f'Which keywords have "{titles[0]}" and "{titles[1]}" in common?', answer


def _who_cites(call: Reference, random: Random) -> Question:
    (title,) = _papers(call, random, 1)
    call("loadPaperNet")
    neighbours = _neighbours(call, "PaperNet", title)
    edges = [call("paperEdgeCheck", node1=title, node2=other) for other in neighbours]
    answer = some(edge["citing"] for edge in edges if edge["cited"] == title)
    return f'Which papers cite "{title}"?', answer


def _years_between(call: Reference, random: Random) -> Question:
    call("loadPaperNet")
    titles = _papers(call, random, 2)
    years = [_paper(call, title)["year"] for title in titles]
    goal = f'How many years lie between the publication of "{titles[0]}" and that of "{titles[1]}"?'
    return goal, abs(years[0] - years[1])


TEMPLATES: tuple[Template, ...] = (
    _fact,
    _total_citations,
    _superlative,
    _collaborators,
    _joint_papers,
    _best_joint_paper,
    _venue_of_joint_papers,
    _citations_of_joint_papers,
    _collaborators_at,
    _home_of_author,
    _neighbour_superlative,
    _shared_neighbours,
    _shared_collaborators,
    _shared_keywords,
    _who_cites,
    _years_between,
)
