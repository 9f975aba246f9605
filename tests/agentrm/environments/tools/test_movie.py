from random import Random

import pytest

from agentrm.environments.tools.database import Database
from agentrm.environments.tools.movie import SCHEMA, Movie, draw_movies
from agentrm.environments.tools.toolkit import ToolError


@pytest.fixture
def movies():
    database = Database(SCHEMA)
    facts = "A drama.", 10, 30, 7.5, "1999-01-02", "Drama|Family", "Avaria|Drovia", "kite|train"
    database.insert("movie", [(1, "The Kite", *facts), (2, "The Kite Returns", *facts), (3, "Kite", *facts)])
    people = [(7, "Ada Voss", "Grew up.", "1950-02-03", "Belham, Avaria", "nm1", "f", "i", "t")]
    database.insert("person", [*people, (8, "Bo Ray", "", "1960-02-03", "Corvik, Drovia", "nm2", "f2", "i2", "t2")])
    database.insert("company", [(1, "North Films", "Avaria")])
    database.insert("cast_member", [(1, 8, 1, "Second"), (1, 7, 0, "Lead"), (2, 7, 0, "Lead again")])
    database.insert("crew_member", [(1, 8, "Director"), (1, 8, "Writer")])
    database.insert("alternative_title", [(1, "Fenland", "Kites")])
    database.insert("translation", [(1, "Dutch", "Alles wacht.")])
    yield Movie(database)
    database.close()


def test_a_search_prefers_the_equal_title(movies) -> None:
    assert movies.get_search_movie("kite") == [{"id": 3, "overview": "A drama.", "title": "Kite"}]
    assert movies.get_search_movie("The kite")[0]["id"] == 1
    assert movies.get_search_movie("returns")[0]["id"] == 2
    assert movies.get_search_movie("%") == []
    assert movies.get_search_person("ada voss") == [{"id": 7, "name": "Ada Voss"}]
    with pytest.raises(ToolError, match="the name to search for is empty"):
        movies.get_search_person("  ")


def test_facts_of_a_movie(movies) -> None:
    assert movies.get_movie_details(1) == {
        "title": "The Kite",
        "budget": 10,
        "revenue": 30,
        "genres": ["Drama", "Family"],
        "vote_average": 7.5,
        "release_date": "1999-01-02",
    }
    companies = [{"name": "North Films", "origin_country": "Avaria"}]
    assert movies.get_movie_production_companies(1) == {"production_companies": companies}
    assert movies.get_movie_production_countries(1) == {"production_countries": ["Avaria", "Drovia"]}
    assert movies.get_movie_keywords(1) == {"keywords": ["kite", "train"]}
    assert movies.get_movie_alternative_titles(1) == {"titles": [{"country": "Fenland", "title": "Kites"}]}
    assert movies.get_movie_translation(1) == {"translations": [{"language": "Dutch", "tagline": "Alles wacht."}]}


def test_cast_and_crew_from_both_sides(movies) -> None:
    lead, second = (
        {"id": 7, "name": "Ada Voss", "character": "Lead"},
        {"id": 8, "name": "Bo Ray", "character": "Second"},
    )
    assert movies.get_movie_cast(1) == {"cast": [lead, second]}
    assert [member["job"] for member in movies.get_movie_crew(1)["crew"]] == ["Director", "Writer"]
    roles = [(role["id"], role["title"], role["character"]) for role in movies.get_person_cast(7)["cast"]]
    assert roles == [(1, "The Kite", "Lead"), (2, "The Kite Returns", "Lead again")]
    assert movies.get_person_crew(8)["crew"][1] == {"id": 1, "title": "The Kite", "job": "Writer"}
    assert movies.get_person_crew(7) == {"crew": []}


def test_facts_of_a_person(movies) -> None:
    born = {"birthday": "1950-02-03", "place_of_birth": "Belham, Avaria"}
    assert movies.get_person_details(7) == {"name": "Ada Voss", "biography": "Grew up."} | born
    ids = {"imdb_id": "nm1", "facebook_id": "f", "instagram_id": "i", "twitter_id": "t"}
    assert movies.get_person_external_ids(7) == ids


def test_unknown_ids_are_refused(movies) -> None:
    for tool in ("get_movie_details", "get_movie_cast", "get_movie_translation"):
        with pytest.raises(ToolError, match="there is no movie with the id 9"):
            getattr(movies, tool)(9)
    with pytest.raises(ToolError, match="there is no person with the id 1"):
        movies.get_person_crew(1)


def test_a_drawn_world_is_whole() -> None:
    movies = draw_movies(Random(5))
    for movie in movies.values()["movie_id"]:
        assert len(movies.get_movie_cast(movie)["cast"]) == 5
        jobs = [member["job"] for member in movies.get_movie_crew(movie)["crew"]]
        assert jobs == ["Director", "Producer", "Writer", "Composer"]
    movies.database.close()
