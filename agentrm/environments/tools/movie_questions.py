"""Questions about movies. Each template makes the calls that answer it and returns the goal and the answer."""

from __future__ import annotations

from random import Random
from typing import Any

from agentrm.environments.tools.reference import Question, Reference, Template, Unfit, best, some

_IDS = {"IMDb": "imdb_id", "Facebook": "facebook_id", "Instagram": "instagram_id", "Twitter": "twitter_id"}
_JOBS = ("Director", "Producer", "Writer", "Composer")


def _titles(call: Reference, random: Random, count: int) -> list[str]:
    return random.sample(call.toolkit.values()["movie_name"], count)


def _people(call: Reference, random: Random, count: int) -> list[str]:
    return random.sample(call.toolkit.values()["person_name"], count)


def _movie(call: Reference, title: str) -> int:
    return call("get_search_movie", movie_name=title)[0]["id"]


def _person(call: Reference, name: str) -> int:
    return call("get_search_person", person_name=name)[0]["id"]


def _details(call: Reference, title: str) -> dict[str, Any]:
    return call("get_movie_details", movie_id=_movie(call, title))


def _crew_with(call: Reference, movie: int, job: str) -> dict[str, Any]:
    return next(member for member in call("get_movie_crew", movie_id=movie)["crew"] if member["job"] == job)


def _profit(call: Reference, random: Random) -> Question:
    (title,) = _titles(call, random, 1)
    details = _details(call, title)
    goal = f"How many dollars did {title} earn above its budget (negative: below)?"
    return goal, details["revenue"] - details["budget"]


def _superlative(call: Reference, random: Random) -> Question:
    titles = _titles(call, random, 3)
    word, key, least = random.choice(
        (
            ("has the highest vote average", "vote_average", False),
            ("has the lowest vote average", "vote_average", True),
            ("had the largest budget", "budget", False),
            ("earned the most revenue", "revenue", False),
            ("was released first", "release_date", True),
            ("was released last", "release_date", False),
        )
    )
    values = {title: _details(call, title)[key] for title in titles}
    answer = best(titles, values.__getitem__, least=least)
    return f"Which of {titles[0]}, {titles[1]} and {titles[2]} {word}?", answer


def _birthplace_of_crew(call: Reference, random: Random) -> Question:
    (title,), job = _titles(call, random, 1), random.choice(_JOBS)
    who = _crew_with(call, _movie(call, title), job)
    answer = call("get_person_details", person_id=who["id"])["place_of_birth"]
    return f"What is the place of birth of the {job.lower()} of {title}?", answer


def _birthday_of_character(call: Reference, random: Random) -> Question:
    (title,) = _titles(call, random, 1)
    role = random.choice(call("get_movie_cast", movie_id=_movie(call, title))["cast"])
    answer = call("get_person_details", person_id=role["id"])["birthday"]
    return f"When was the actor who played {role['character']} in {title} born?", answer


def _common_actors(call: Reference, random: Random) -> Question:
    titles = _titles(call, random, 2)
    casts = [call("get_movie_cast", movie_id=_movie(call, title))["cast"] for title in titles]
    others = [member["name"] for member in casts[1]]
    answer = some(member["name"] for member in casts[0] if member["name"] in others)
    return f"Which actors played in both {titles[0]} and {titles[1]}?", answer


def _common_keywords(call: Reference, random: Random) -> Question:
    titles = _titles(call, random, 2)
    one, other = (call("get_movie_keywords", movie_id=_movie(call, title))["keywords"] for title in titles)
    answer = some(word for word in one if word in other)
    return f"Which keywords do {titles[0]} and {titles[1]} share?", answer


def _companies_of_role(call: Reference, random: Random) -> Question:
    (name,) = _people(call, random, 1)
    role = random.choice(some(call("get_person_cast", person_id=_person(call, name))["cast"]))
    companies = call("get_movie_production_companies", movie_id=role["id"])["production_companies"]
    goal = f"Which companies produced the movie in which {name} played {role['character']}?"
    return goal, [company["name"] for company in companies]


def _countries(call: Reference, random: Random) -> Question:
    (title,) = _titles(call, random, 1)
    answer = call("get_movie_production_countries", movie_id=_movie(call, title))["production_countries"]
    return f"In which countries was {title} produced?", answer


def _external_id(call: Reference, random: Random) -> Question:
    (title,), job, site = _titles(call, random, 1), random.choice(_JOBS), random.choice(list(_IDS))
    who = _crew_with(call, _movie(call, title), job)
    answer = call("get_person_external_ids", person_id=who["id"])[_IDS[site]]
    return f"What is the {site} id of the {job.lower()} of {title}?", answer


def _alternative_title(call: Reference, random: Random) -> Question:
    (title,) = _titles(call, random, 1)
    other = random.choice(call("get_movie_alternative_titles", movie_id=_movie(call, title))["titles"])
    return f"Under which title was {title} shown in {other['country']}?", other["title"]


def _tagline(call: Reference, random: Random) -> Question:
    (title,) = _titles(call, random, 1)
    other = random.choice(call("get_movie_translation", movie_id=_movie(call, title))["translations"])
    return f"What is the {other['language']} tagline of {title}?", other["tagline"]


def _count_jobs(call: Reference, random: Random) -> Question:
    (name,), job = _people(call, random, 1), random.choice(_JOBS)
    credits = call("get_person_crew", person_id=_person(call, name))["crew"]
    count = len(some(credit for credit in credits if credit["job"] == job))
    return f"On how many movies was {name} the {job.lower()}?", count


def _best_movie_of_actor(call: Reference, random: Random) -> Question:
    (name,) = _people(call, random, 1)
    roles = call("get_person_cast", person_id=_person(call, name))["cast"]
    if not 2 <= len(roles) <= 5:
        raise Unfit
    word, key = random.choice(
        (("best rated", "vote_average"), ("most expensive", "budget"), ("newest", "release_date"))
    )
    movies = [call("get_movie_details", movie_id=role["id"]) for role in roles]
    return f"Which is the {word} movie in which {name} acted?", best(movies, lambda movie: movie[key])["title"]


def _other_movies_of_director(call: Reference, random: Random) -> Question:
    (title,) = _titles(call, random, 1)
    director = _crew_with(call, _movie(call, title), "Director")
    credits = call("get_person_crew", person_id=director["id"])["crew"]
    answer = some(credit["title"] for credit in credits if credit["job"] == "Director" and credit["title"] != title)
    return f"Which other movies did the director of {title} direct?", answer


def _older_of_two_leads(call: Reference, random: Random) -> Question:
    titles = _titles(call, random, 2)
    leads = [call("get_movie_cast", movie_id=_movie(call, title))["cast"][0] for title in titles]
    people = [call("get_person_details", person_id=lead["id"]) for lead in leads]
    goal = f"Who is older, the leading actor of {titles[0]} or that of {titles[1]}? Answer with the name."
    return goal, best(people, lambda person: person["birthday"], least=True)["name"]


def _company_of_two(call: Reference, random: Random) -> Question:
    titles = _titles(call, random, 2)
    one, other = (
        call("get_movie_production_companies", movie_id=_movie(call, title))["production_companies"] for title in titles
    )
    shared = some(company for company in one if company in other)
    if len(shared) > 1:
        raise Unfit
    goal = f"From which country is the company that produced both {titles[0]} and {titles[1]}?"
    return goal, shared[0]["origin_country"]


def _genres_of_crew(call: Reference, random: Random) -> Question:
    (name,), job = _people(call, random, 1), random.choice(_JOBS)
    credits = call("get_person_crew", person_id=_person(call, name))["crew"]
    works = [credit for credit in credits if credit["job"] == job]
    if len(works) != 1:
        raise Unfit
    answer = call("get_movie_details", movie_id=works[0]["id"])["genres"]
    return f"Which genres has the movie whose {job.lower()} was {name}?", answer


TEMPLATES: tuple[Template, ...] = (
    _profit,
    _superlative,
    _birthplace_of_crew,
    _birthday_of_character,
    _common_actors,
    _common_keywords,
    _companies_of_role,
    _countries,
    _external_id,
    _alternative_title,
    _tagline,
    _count_jobs,
    _best_movie_of_actor,
    _other_movies_of_director,
    _older_of_two_leads,
    _company_of_two,
    _genres_of_crew,
)
