from random import Random

import pytest

from agentrm.environments.tools.academia import SCHEMA, Academia, draw_academia
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.toolkit import ToolError


@pytest.fixture
def academia():
    database = Database(SCHEMA)
    papers = [(1, "Old Paper", 2000, "Letters", 50, "graphs|speech", "Journal")]
    database.insert("paper", [*papers, (2, "New Paper", 2010, "Annals", 5, "graphs", "Workshop")])
    database.insert("author", [(1, "Ada Voss", "Institute"), (2, "Bo Ray", "Laboratory"), (3, "Cy Dee", "Institute")])
    database.insert("wrote", [(1, 2, 0), (1, 1, 1), (2, 1, 0), (2, 2, 1)])
    database.insert("cites", [(2, 1)])
    yield Academia(database)
    database.close()


def test_a_graph_must_be_loaded(academia) -> None:
    with pytest.raises(ToolError, match="PaperNet is not loaded: call loadPaperNet first"):
        academia.paperNodeCheck("Old Paper")
    assert academia.loadPaperNet() == "PaperNet is loaded."
    assert academia.paperNodeCheck("old paper") == {
        "authors": ["Bo Ray", "Ada Voss"],
        "year": 2000,
        "venue": "Letters",
        "n_citation": 50,
        "keywords": ["graphs", "speech"],
        "doc_type": "Journal",
    }
    with pytest.raises(ToolError, match="AuthorNet is not loaded"):
        academia.neighbourCheck("AuthorNet", "Ada Voss")


def test_papers_are_neighbours_by_citation(academia) -> None:
    academia.loadPaperNet()
    assert academia.neighbourCheck("PaperNet", "Old Paper") == ["New Paper"]
    assert academia.neighbourCheck("PaperNet", "New Paper") == ["Old Paper"]
    edge = {"citing": "New Paper", "cited": "Old Paper"}
    assert academia.paperEdgeCheck("Old Paper", "New Paper") == edge
    assert academia.paperEdgeCheck("New Paper", "Old Paper") == edge
    with pytest.raises(ToolError, match="there is no edge between Old Paper and Old Paper"):
        academia.paperEdgeCheck("Old Paper", "Old Paper")
    with pytest.raises(ToolError, match="there is no node Lost Paper in PaperNet"):
        academia.neighbourCheck("PaperNet", "Lost Paper")


def test_authors_are_neighbours_by_papers(academia) -> None:
    academia.loadAuthorNet()
    assert academia.neighbourCheck("AuthorNet", "Ada Voss") == ["Bo Ray"]
    assert academia.neighbourCheck("AuthorNet", "Cy Dee") == []
    assert academia.authorEdgeCheck("Bo Ray", "Ada Voss") == ["Old Paper", "New Paper"]
    assert academia.authorNodeCheck("cy dee") == {"name": "Cy Dee", "org": "Institute"}
    with pytest.raises(ToolError, match="there is no edge between Ada Voss and Cy Dee"):
        academia.authorEdgeCheck("Ada Voss", "Cy Dee")


def test_drawn_papers_cite_older_ones_only() -> None:
    academia = draw_academia(Random(1))
    query = "SELECT old.year - new.year FROM cites JOIN paper old ON old.id = cited JOIN paper new ON new.id = paper"
    gaps = academia.database.column(query)
    assert len(gaps) >= 13
    assert max(gaps) <= 0
    academia.database.close()
