"""Movies: a catalogue of films and people with cast, crew, companies, countries, keywords and translations."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Annotated, Any

from pydantic import Field

from agentrm.environments.tools import names
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.query import QueryToolkit
from agentrm.environments.tools.toolkit import ToolError, tool

SCHEMA = """
CREATE TABLE movie (id INTEGER PRIMARY KEY, title TEXT, overview TEXT, budget INTEGER, revenue INTEGER,
                    vote_average REAL, release_date TEXT, genres TEXT, countries TEXT, keywords TEXT);
CREATE TABLE company (movie INTEGER, name TEXT, origin_country TEXT);
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, biography TEXT, birthday TEXT, place_of_birth TEXT,
                     imdb_id TEXT, facebook_id TEXT, instagram_id TEXT, twitter_id TEXT);
CREATE TABLE cast_member (movie INTEGER, person INTEGER, position INTEGER, character TEXT);
CREATE TABLE crew_member (movie INTEGER, person INTEGER, job TEXT);
CREATE TABLE alternative_title (movie INTEGER, country TEXT, title TEXT);
CREATE TABLE translation (movie INTEGER, language TEXT, tagline TEXT);
"""
MOVIES, PEOPLE, DIRECTORS = 10, 18, 4
CAST, KEYWORDS = 5, 5
JOBS = ("Producer", "Writer", "Composer")
GENRES = ("Action", "Comedy", "Drama", "Family", "History", "Horror", "Mystery", "Romance", "Thriller", "Western")
_STARTS = ("The Silent", "The Last", "A Distant", "The Broken", "The Hidden", "A Second", "The Golden", "Her Quiet")
_MIDDLES = ("Harbor", "Garden", "Letter", "Winter", "Orchard", "Signal", "Mirror", "Voyage", "Bridge", "Summer")
_ENDS = ("of Ash", "of Glass", "in Exile", "at Dawn", "Returns", "of Salt", "Below", "and Rain", "Tonight", "of Kings")
_COMPANY_STARTS = ("Bright", "North", "Lantern", "Copper", "Falcon", "Meridian", "Paper", "Old Mill")
_COMPANY_ENDS = ("Pictures", "Films", "Studios", "Media")
_TAGLINES = {
    "German": (("Niemand", "Alles", "Die Liebe", "Der Sturm"), ("vergisst", "wartet", "kehrt zurück", "schweigt")),
    "Dutch": (("Niemand", "Alles", "De liefde", "De storm"), ("vergeet", "wacht", "keert terug", "zwijgt")),
    "Spanish": (("Nadie", "Todo", "El amor", "La tormenta"), ("olvida", "espera", "regresa", "calla")),
}

Id = Annotated[int, Field(ge=1, le=2**31)]


class Movie(QueryToolkit):
    """A search returns the best match only; details want ids."""

    @tool
    def get_search_movie(self, movie_name: str) -> list[dict[str, Any]]:
        """id, overview and title of the movie with that name"""
        return self._search("SELECT id, overview, title FROM movie", "title", movie_name)

    @tool
    def get_movie_details(self, movie_id: Id) -> dict[str, Any]:
        """title, budget and revenue (dollars), genres, vote average and release date"""
        columns = "title, budget, revenue, genres, vote_average, release_date"
        return _with_lists(self._movie(movie_id, columns))

    @tool
    def get_movie_production_companies(self, movie_id: Id) -> dict[str, Any]:
        """the production companies and their countries"""
        self._movie(movie_id, "id")
        query = "SELECT name, origin_country FROM company WHERE movie = ? ORDER BY rowid"
        return {"production_companies": self.database.rows(query, movie_id)}

    @tool
    def get_movie_production_countries(self, movie_id: Id) -> dict[str, Any]:
        """the countries where it was produced"""
        return {"production_countries": self._movie(movie_id, "countries")["countries"].split("|")}

    @tool
    def get_movie_cast(self, movie_id: Id) -> dict[str, Any]:
        """the actors, leading role first: person id, name and character"""
        self._movie(movie_id, "id")
        query = """SELECT person.id, name, character FROM cast_member JOIN person ON person.id = person
                   WHERE movie = ? ORDER BY position"""
        return {"cast": self.database.rows(query, movie_id)}

    @tool
    def get_movie_crew(self, movie_id: Id) -> dict[str, Any]:
        """director, producer, writer and composer: person id, name and job"""
        self._movie(movie_id, "id")
        query = """SELECT person.id, name, job FROM crew_member JOIN person ON person.id = person
                   WHERE movie = ? ORDER BY crew_member.rowid"""
        return {"crew": self.database.rows(query, movie_id)}

    @tool
    def get_movie_keywords(self, movie_id: Id) -> dict[str, Any]:
        """the keywords"""
        return {"keywords": self._movie(movie_id, "keywords")["keywords"].split("|")}

    @tool
    def get_movie_alternative_titles(self, movie_id: Id) -> dict[str, Any]:
        """its titles in other countries"""
        self._movie(movie_id, "id")
        query = "SELECT country, title FROM alternative_title WHERE movie = ? ORDER BY rowid"
        return {"titles": self.database.rows(query, movie_id)}

    @tool
    def get_movie_translation(self, movie_id: Id) -> dict[str, Any]:
        """its taglines in other languages"""
        self._movie(movie_id, "id")
        query = "SELECT language, tagline FROM translation WHERE movie = ? ORDER BY rowid"
        return {"translations": self.database.rows(query, movie_id)}

    @tool
    def get_search_person(self, person_name: str) -> list[dict[str, Any]]:
        """id and name of the person with that name"""
        return self._search("SELECT id, name FROM person", "name", person_name)

    @tool
    def get_person_details(self, person_id: Id) -> dict[str, Any]:
        """name, biography, birthday and place of birth"""
        return self._person(person_id, "name, biography, birthday, place_of_birth")

    @tool
    def get_person_cast(self, person_id: Id) -> dict[str, Any]:
        """the movies in which the person acted: movie id, title and character"""
        self._person(person_id, "id")
        query = """SELECT movie.id, title, character FROM cast_member JOIN movie ON movie.id = movie
                   WHERE person = ? ORDER BY movie.id"""
        return {"cast": self.database.rows(query, person_id)}

    @tool
    def get_person_crew(self, person_id: Id) -> dict[str, Any]:
        """the movies on which the person worked behind the camera: movie id, title and job"""
        self._person(person_id, "id")
        query = """SELECT movie.id, title, job FROM crew_member JOIN movie ON movie.id = movie
                   WHERE person = ? ORDER BY movie.id, crew_member.rowid"""
        return {"crew": self.database.rows(query, person_id)}

    @tool
    def get_person_external_ids(self, person_id: Id) -> dict[str, Any]:
        """the person's ids on IMDb, Facebook, Instagram and Twitter"""
        return self._person(person_id, "imdb_id, facebook_id, instagram_id, twitter_id")

    def values(self) -> dict[str, list[Any]]:
        movies = self.database.rows("SELECT id, title FROM movie ORDER BY id")
        people = self.database.rows("SELECT id, name FROM person ORDER BY id")
        return {
            "movie_id": [movie["id"] for movie in movies],
            "movie_name": [movie["title"] for movie in movies],
            "person_id": [person["id"] for person in people],
            "person_name": [person["name"] for person in people],
        }

    def _search(self, select: str, column: str, name: str) -> list[dict[str, Any]]:
        """The one row whose name is equal, else the first that contains it."""
        name = name.strip()
        if not name:
            raise ToolError("the name to search for is empty")
        query = f"{select} WHERE instr(lower({column}), lower(?)) ORDER BY {column} != ? COLLATE NOCASE, id LIMIT 1"
        return self.database.rows(query, name, name)

    def _movie(self, movie_id: int, columns: str) -> dict[str, Any]:
        return self._one("movie", movie_id, columns)

    def _person(self, person_id: int, columns: str) -> dict[str, Any]:
        return self._one("person", person_id, columns)

    def _one(self, table: str, key: int, columns: str) -> dict[str, Any]:
        rows = self.database.rows(f"SELECT {columns} FROM {table} WHERE id = ?", key)
        if not rows:
            raise ToolError(f"there is no {table} with the id {key}")
        return rows[0]


def _with_lists(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.split("|") if key == "genres" else value for key, value in row.items()}


def draw_movies(random: Random) -> Movie:
    """A small studio world: few directors, actors who meet in several films."""
    database = Database(SCHEMA)
    people = dict(zip(random.sample(range(1000, 99999), PEOPLE), names.people(random, PEOPLE), strict=True))
    database.insert("person", [_draw_person(random, key, name) for key, name in people.items()])
    directors, actors = list(people)[:DIRECTORS], list(people)[DIRECTORS:]
    countries = list(names.COUNTRIES)
    companies = names.titles(random, 6, _COMPANY_STARTS, _COMPANY_ENDS)
    homes = {company: random.choice(countries) for company in companies}
    characters = iter(names.people(random, MOVIES * CAST))
    ids = random.sample(range(1000, 999999), MOVIES)
    for key, title in zip(ids, names.titles(random, MOVIES, _STARTS, _MIDDLES, _ENDS), strict=True):
        genres, keywords = random.sample(GENRES, 2), random.sample(names.MOTIFS, KEYWORDS)
        where, makers = random.sample(countries, 2), random.sample(companies, random.randint(1, 3))
        director, cast = random.choice(directors), random.sample(actors, CAST)
        crew = zip(JOBS, random.sample(list(people), len(JOBS)), strict=True)
        budget = random.randint(40, 2500) * 100_000
        money = budget, round(budget * random.uniform(0.4, 4), -3)
        released = date(1975, 1, 1) + timedelta(days=random.randrange(17_000))
        facts = (round(random.uniform(3, 9.5), 1), released.isoformat())
        overview = f"A {genres[0].lower()} story about a {keywords[0]} and a {keywords[1]}."
        lists = "|".join(genres), "|".join(where), "|".join(keywords)
        database.insert("movie", [(key, title, overview, money[0], int(money[1]), *facts, *lists)])
        database.insert("company", [(key, maker, homes[maker]) for maker in makers])
        database.insert("cast_member", [(key, who, n, next(characters)) for n, who in enumerate(cast)])
        database.insert("crew_member", [(key, director, "Director"), *((key, who, job) for job, who in crew)])
        abroad = zip(random.sample(countries, 3), names.titles(random, 3, _STARTS, _MIDDLES), strict=True)
        database.insert("alternative_title", [(key, country, other) for country, other in abroad])
        taglines = [(key, language, " ".join(map(random.choice, parts)) + ".") for language, parts in _TAGLINES.items()]
        database.insert("translation", taglines)
    return Movie(database)


def _draw_person(random: Random, key: int, name: str) -> tuple[Any, ...]:
    born = date(1935, 1, 1) + timedelta(days=random.randrange(23_000))
    (town,), country = names.places(random, 1), random.choice(names.COUNTRIES)
    handle, number = name.lower().replace(" ", ""), random.randint(10, 999)
    biography = f"{name} grew up in {town} and has worked in film since {born.year + random.randint(18, 35)}."
    ids = (f"nm{random.randint(10**6, 10**7 - 1)}", f"{handle}.{number}", f"{handle}_{number}", f"{handle}{number}")
    return (key, name, biography, born.isoformat(), f"{town}, {country}", *ids)
