"""Questions about the weather. Each template makes the calls that answer it and returns the goal and the answer."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Any

from agentrm.environments.tools.reference import Question, Reference, Template, best, some

_WORD = {"temp": "temperature", "rain": "rain", "snow": "snowfall"}
_ORDINARY = ("highest", "lowest", "mean")


class Asker:
    """The calls that most questions begin with."""

    def __init__(self, call: Reference, random: Random) -> None:
        self.call, self.random = call, random

    def towns(self, count: int) -> list[str]:
        return self.random.sample(self.call.toolkit.values()["name"], count)

    def today(self) -> date:
        return date.fromisoformat(self.call("get_user_current_date"))

    def here(self) -> str:
        return self.call("get_user_current_location")

    def point(self, town: str) -> dict[str, float]:
        place = self.call("get_latitude_longitude", name=town)[0]
        return {"latitude": place["latitude"], "longitude": place["longitude"]}

    def daily(self, tool: str, point: dict[str, float], start: date, end: date) -> dict[str, list[Any]]:
        return self.call(tool, **point, start_date=start.isoformat(), end_date=end.isoformat())["daily"]

    def past(self, what: str, town: str, days: int) -> dict[str, list[Any]]:
        """The days that ended yesterday."""
        today, point = self.today(), self.point(town)
        yesterday = today - timedelta(days=1)
        return self.daily(f"get_historical_{what}", point, today - timedelta(days=days), yesterday)

    def coming(self, what: str, town: str, days: int) -> dict[str, list[Any]]:
        """The days that start tomorrow."""
        today, point = self.today(), self.point(town)
        return self.daily(f"get_{what}_forecast", point, today + timedelta(days=1), today + timedelta(days=days))


def _elevation_gap(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    one, other = ask.towns(2)
    heights = [call("get_elevation", **ask.point(town))["elevation"] for town in (one, other)]
    return f"How many metres is the difference in elevation between {one} and {other}?", abs(heights[0] - heights[1])


def _highest_town(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    towns, word = ask.towns(3), random.choice(("highest", "lowest"))
    heights = {town: call("get_elevation", **ask.point(town))["elevation"] for town in towns}
    answer = best(towns, heights.__getitem__, least=word == "lowest")
    return f"Which of {towns[0]}, {towns[1]} and {towns[2]} lies {word} above sea level?", answer


def _past_mean(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), days, which = ask.towns(1), random.randint(3, 10), random.choice(_ORDINARY)
    values = ask.past("temp", town, days)[which]
    average = round(sum(values) / days, 2)
    return f"What was the average of the daily {which} temperatures in {town} over the past {days} days (°C)?", average


def _past_extreme(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), days, word = ask.towns(1), random.randint(4, 12), random.choice(("warmest", "coldest"))
    history = ask.past("temp", town, days)
    pairs = list(zip(history["date"], history["mean"], strict=True))
    day, _ = best(pairs, lambda pair: pair[1], least=word == "coldest")
    return f"On which date was the {word} day by mean temperature in {town} over the past {days} days?", day


def _past_total(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), days, what = ask.towns(1), random.randint(3, 12), random.choice(("rain", "snow"))
    total = sum(some(value for value in ask.past(what, town, days)[what] if value))
    unit = "mm" if what == "rain" else "cm"
    return f"How much {_WORD[what]} in {unit} fell in {town} over the past {days} days in total?", round(total, 2)


def _past_count(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), days, what = ask.towns(1), random.randint(5, 13), random.choice(("rain", "snow"))
    count = len(some(value for value in ask.past(what, town, days)[what] if value))
    return f"On how many of the past {days} days did {town} see {_WORD[what]}?", count


def _here_past(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    days, word = random.randint(2, 12), random.choice(("highest", "lowest"))
    values = ask.past("temp", ask.here(), days)[word]
    answer = max(values) if word == "highest" else min(values)
    return f"What was the {word} temperature where I am over the past {days} days (°C)?", answer


def _here_and_there_now(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (there,), which = ask.towns(1), random.choice(_ORDINARY)
    today, here = ask.today(), ask.here()
    some(town for town in [there] if town != here)
    values = [
        call("get_current_temp", **ask.point(town), current_date=today.isoformat())["daily"][which][0]
        for town in (here, there)
    ]
    goal = f"By how many °C do today's {which} temperatures where I am and in {there} differ?"
    return goal, round(abs(values[0] - values[1]), 2)


def _coming_extreme(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), days, word = ask.towns(1), random.randint(3, 8), random.choice(("warmest", "coldest"))
    forecast = ask.coming("temp", town, days)
    pairs = list(zip(forecast["date"], forecast["mean"], strict=True))
    day, _ = best(pairs, lambda pair: pair[1], least=word == "coldest")
    return f"Which date will be the {word} by mean temperature in {town} over the next {days} days?", day


def _first_wet_day(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), days, what = ask.towns(1), random.randint(3, 8), random.choice(("rain", "snow"))
    forecast = ask.coming(what, town, days)
    wet = some(day for day, value in zip(forecast["date"], forecast[what], strict=True) if value)
    return f"On which date within the next {days} days will {town} first see {_WORD[what]}?", wet[0]


def _wettest_town(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    towns, days, what = ask.towns(3), random.randint(3, 7), random.choice(("rain", "snow"))
    today = ask.today()
    totals = {}
    for town in towns:
        start, end = today + timedelta(days=1), today + timedelta(days=days)
        totals[town] = sum(ask.daily(f"get_{what}_forecast", ask.point(town), start, end)[what])
    answer = best(towns, lambda town: round(totals[town], 2))
    goal = f"Which of {towns[0]}, {towns[1]} and {towns[2]} will get the most {_WORD[what]} over the next {days} days?"
    return goal, answer


def _distance_from_here(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (there,), here = ask.towns(1), ask.here()
    some(town for town in [there] if town != here)
    return f"How many km is it from where I am to {there}?", _distance(ask, here, there)


def _nearest_air(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    here, *towns = ask.towns(4)
    distances = {town: _distance(ask, here, town) for town in towns}
    nearest = best(towns, distances.__getitem__, least=True)
    answer = call("get_air_quality_index", **ask.point(nearest))["air_quality_index"]
    goal = f"Which air quality index has the one of {', '.join(towns[:2])} and {towns[2]} that is nearest to {here}?"
    return goal, answer


def _cleanest_town(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    towns, word = ask.towns(4), random.choice(("cleanest", "dirtiest"))
    air = {town: call("get_air_quality_index", **ask.point(town))["air_quality_index"] for town in towns}
    answer = best(towns, air.__getitem__, least=word == "cleanest")
    return f"Which of {', '.join(towns[:3])} and {towns[3]} has the {word} air today?", answer


def _yesterday_to_tomorrow(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    (town,), which = ask.towns(1), random.choice(_ORDINARY)
    today, point = ask.today(), ask.point(town)
    before, after = today - timedelta(days=1), today + timedelta(days=1)
    old = ask.daily("get_historical_temp", point, before, before)[which][0]
    new = ask.daily("get_temp_forecast", point, after, after)[which][0]
    goal = f"How many °C warmer (negative: colder) will the {which} temperature of {town} be tomorrow than yesterday?"
    return goal, round(new - old, 2)


def _snow_or_rain_of_two(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    towns, what = ask.towns(2), random.choice(("rain", "snow"))
    today = ask.today().isoformat()
    tool = f"get_current_{what}"
    values = [call(tool, **ask.point(town), current_date=today)["daily"][what][0] for town in towns]
    unit = "mm" if what == "rain" else "cm"
    goal = f"How much {_WORD[what]} in {unit} do {towns[0]} and {towns[1]} get today, both together?"
    return goal, round(sum(some(value for value in values if value)), 2)


def _umbrella_country(call: Reference, random: Random) -> Question:
    ask = Asker(call, random)
    here = ask.here()
    country = call("get_latitude_longitude", name=here)[0]["country"]
    days = random.randint(2, 8)
    rain = ask.coming("rain", here, days)["rain"]
    count = sum(1 for value in rain if value)
    goal = f"In which country am I, and on how many of the next {days} days will it rain here? Answer with both."
    return goal, [country, count]


def _distance(ask: Asker, one: str, other: str) -> float:
    start, end = ask.point(one), ask.point(other)
    points = {f"{key}1": value for key, value in start.items()} | {f"{key}2": value for key, value in end.items()}
    return ask.call("get_distance", **points)


TEMPLATES: tuple[Template, ...] = (
    _elevation_gap,
    _highest_town,
    _past_mean,
    _past_extreme,
    _past_total,
    _past_count,
    _here_past,
    _here_and_there_now,
    _coming_extreme,
    _first_wet_day,
    _wettest_town,
    _distance_from_here,
    _nearest_air,
    _cleanest_town,
    _yesterday_to_tomorrow,
    _snow_or_rain_of_two,
    _umbrella_country,
)
