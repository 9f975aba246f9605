"""Academia: a graph of papers that cite each other and a graph of authors who wrote together."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

from agentrm.environments.tools import names
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.query import QueryToolkit
from agentrm.environments.tools.toolkit import ToolError, tool

SCHEMA = """
CREATE TABLE paper (id INTEGER PRIMARY KEY, title TEXT, year INTEGER, venue TEXT, n_citation INTEGER, keywords TEXT,
                    doc_type TEXT);
CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT, org TEXT);
CREATE TABLE wrote (paper INTEGER, author INTEGER, position INTEGER);
CREATE TABLE cites (paper INTEGER, cited INTEGER);
"""
PAPERS, AUTHORS, ORGANISATIONS = 14, 12, 5
VENUES = ("Annals of Data", "Journal of Inference", "Learning Letters", "Symposium on Search", "Workshop on Agents")
TYPES = ("Conference", "Journal", "Workshop")
_STARTS = ("Fast", "Robust", "Sparse", "Hierarchical", "Self-supervised", "Online", "Bayesian", "Differentiable")
_MIDDLES = ("Planning", "Ranking", "Segmentation", "Translation", "Clustering", "Retrieval", "Tracking", "Hashing")
_ENDS = (
    "with Graphs",
    "under Noise",
    "from Few Labels",
    "in the Wild",
    "by Sampling",
    "for Long Documents",
    "without Rewards",
    "at Scale",
)

Net = Literal["PaperNet", "AuthorNet"]


class Academia(QueryToolkit):
    """Each graph must be loaded before it answers; nodes go by title or name."""

    @tool
    def loadPaperNet(self) -> str:  # noqa: N802 - the field's name
        """load the graph of papers, needed before the others use it"""
        return self._load("PaperNet")

    @tool
    def loadAuthorNet(self) -> str:  # noqa: N802
        """load the graph of authors, needed before the others use it"""
        return self._load("AuthorNet")

    @tool
    def neighbourCheck(self, graph: Net, node: str) -> list[str]:  # noqa: N802
        """in PaperNet all papers that cite the paper or that it cites, in AuthorNet all co-authors"""
        self._need(graph)
        if graph == "PaperNet":
            query = """SELECT title FROM paper WHERE id IN (SELECT cited FROM cites WHERE paper = ?1
                       UNION SELECT paper FROM cites WHERE cited = ?1) ORDER BY id"""
            return self.database.column(query, self._paper(node)["id"])
        query = """SELECT name FROM author WHERE id != ?1 AND id IN (SELECT author FROM wrote WHERE paper IN
                   (SELECT paper FROM wrote WHERE author = ?1)) ORDER BY id"""
        return self.database.column(query, self._author(node)["id"])

    @tool
    def paperNodeCheck(self, node: str) -> dict[str, Any]:  # noqa: N802
        """authors in order, year, venue, number of citations, keywords and type of a paper"""
        self._need("PaperNet")
        paper = self._paper(node)
        query = "SELECT name FROM author JOIN wrote ON author = id WHERE paper = ? ORDER BY position"
        authors = self.database.column(query, paper.pop("id"))
        del paper["title"]
        return {"authors": authors} | paper | {"keywords": paper["keywords"].split("|")}

    @tool
    def authorNodeCheck(self, node: str) -> dict[str, Any]:  # noqa: N802
        """name and organisation of an author"""
        self._need("AuthorNet")
        author = self._author(node)
        return {"name": author["name"], "org": author["org"]}

    @tool
    def authorEdgeCheck(self, node1: str, node2: str) -> list[str]:  # noqa: N802
        """the papers that two authors wrote together"""
        self._need("AuthorNet")
        query = """SELECT title FROM paper WHERE id IN (SELECT paper FROM wrote WHERE author = ?
                   INTERSECT SELECT paper FROM wrote WHERE author = ?) ORDER BY id"""
        titles = self.database.column(query, self._author(node1)["id"], self._author(node2)["id"])
        if not titles:
            raise ToolError(f"there is no edge between {node1} and {node2}")
        return titles

    @tool
    def paperEdgeCheck(self, node1: str, node2: str) -> dict[str, str]:  # noqa: N802
        """which of two papers cites the other"""
        self._need("PaperNet")
        first, second = self._paper(node1), self._paper(node2)
        for paper, cited in ((first, second), (second, first)):
            if self.database.column("SELECT 1 FROM cites WHERE paper = ? AND cited = ?", paper["id"], cited["id"]):
                return {"citing": paper["title"], "cited": cited["title"]}
        raise ToolError(f"there is no edge between {node1} and {node2}")

    def values(self) -> dict[str, list[Any]]:
        titles = self.database.column("SELECT title FROM paper ORDER BY id")
        authors = self.database.column("SELECT name FROM author ORDER BY id")
        nets = ["PaperNet"] * PAPERS + ["AuthorNet"] * AUTHORS
        return {"graph": nets, "node": titles + authors, "node1": titles + authors, "node2": titles[1:] + authors[1:]}

    def _load(self, net: str) -> str:
        self.loaded |= {net}
        return f"{net} is loaded."

    def _need(self, net: str) -> None:
        if net not in self.loaded:
            raise ToolError(f"{net} is not loaded: call load{net} first")

    def _paper(self, title: str) -> dict[str, Any]:
        columns = "id, year, venue, n_citation, keywords, doc_type, title"
        rows = self.database.rows(f"SELECT {columns} FROM paper WHERE title = ? COLLATE NOCASE", title.strip())
        if not rows:
            raise ToolError(f"there is no node {title[:80]} in PaperNet")
        return rows[0]

    def _author(self, name: str) -> dict[str, Any]:
        rows = self.database.rows("SELECT id, name, org FROM author WHERE name = ? COLLATE NOCASE", name.strip())
        if not rows:
            raise ToolError(f"there is no node {name[:80]} in AuthorNet")
        return rows[0]


def draw_academia(random: Random) -> Academia:
    """A small field: papers cite older papers, authors write in groups of two or three."""
    database = Database(SCHEMA)
    towns = names.places(random, ORGANISATIONS)
    organisations = [f"{random.choice(('University of', 'Institute of', 'Laboratory of'))} {town}" for town in towns]
    authors = enumerate(names.people(random, AUTHORS))
    database.insert("author", [(key, name, random.choice(organisations)) for key, name in authors])
    years = sorted(random.choices(range(1998, 2022), k=PAPERS))
    papers, wrote, cites = [], [], []
    for key, title in enumerate(names.titles(random, PAPERS, _STARTS, _MIDDLES, _ENDS)):
        keywords = "|".join(random.sample(names.TOPICS, 5))
        facts = years[key], random.choice(VENUES), random.randint(3, 900), keywords, random.choice(TYPES)
        papers.append((key, title, *facts))
        group = random.sample(range(AUTHORS), random.randint(2, 3))
        wrote += [(key, author, position) for position, author in enumerate(group)]
        cites += [(key, older) for older in random.sample(range(key), min(key, random.randint(1, 2)))]
    database.insert("paper", papers)
    database.insert("wrote", wrote)
    database.insert("cites", cites)
    return Academia(database)
