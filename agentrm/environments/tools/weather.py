"""Weather: stations with coordinates, daily temperature, rain and snow, air quality, and a user somewhere."""

from __future__ import annotations

import math
from datetime import date, timedelta
from random import Random
from typing import Annotated, Any

from pydantic import Field

from agentrm.environments.tools import names
from agentrm.environments.tools.database import Database
from agentrm.environments.tools.query import QueryToolkit
from agentrm.environments.tools.toolkit import ToolError, tool

SCHEMA = """
CREATE TABLE user (today TEXT, location TEXT);
CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT, country TEXT, latitude REAL, longitude REAL, elevation REAL,
                    air_quality_index INTEGER);
CREATE TABLE day (place INTEGER, date TEXT, highest REAL, lowest REAL, mean REAL, rain REAL, snow REAL,
                  PRIMARY KEY (place, date)) WITHOUT ROWID;
"""
PLACES = 7
PAST_DAYS, FUTURE_DAYS = 14, 8
LONGEST_SPAN_DAYS = 30
# A town is found when asked for within this distance; the towns of a world are farther apart.
NEAR_DEGREES = 0.5
EARTH_RADIUS_KM = 6371.0088
AIR_QUALITY_LEVELS = ((20, "good"), (40, "fair"), (60, "moderate"), (80, "poor"), (100, "very poor"))

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Day = Annotated[date, Field(strict=True)]


class Weather(QueryToolkit):
    """Times are whole days; forecasts start tomorrow, history ends yesterday."""

    @tool
    def get_user_current_date(self) -> str:
        """today's date"""
        return self._today.isoformat()

    @tool
    def get_user_current_location(self) -> str:
        """the place where the user is"""
        return self.database.column("SELECT location FROM user")[0]

    @tool
    def get_latitude_longitude(self, name: str) -> list[dict[str, Any]]:
        """coordinates and country of a place"""
        query = "SELECT name, latitude, longitude, country FROM place WHERE name = ? COLLATE NOCASE"
        return self.database.rows(query, name.strip())

    @tool
    def get_elevation(self, latitude: Latitude, longitude: Longitude) -> dict[str, Any]:
        """elevation in metres"""
        return self._at(latitude, longitude, "elevation")

    @tool
    def get_distance(
        self, latitude1: Latitude, longitude1: Longitude, latitude2: Latitude, longitude2: Longitude
    ) -> float:
        """distance between two points in km"""
        return round(distance_km(latitude1, longitude1, latitude2, longitude2), 1)

    @tool
    def get_air_quality_index(self, latitude: Latitude, longitude: Longitude) -> dict[str, Any]:
        """today's air quality index, 0 (clean) to 100 and more, and its level"""
        place = self._at(latitude, longitude, "air_quality_index")
        index = place["air_quality_index"]
        level = next((name for limit, name in AIR_QUALITY_LEVELS if index < limit), "extremely poor")
        return place | {"level": level}

    @tool
    def get_current_temp(self, latitude: Latitude, longitude: Longitude, current_date: Day) -> dict[str, Any]:
        """today's highest, lowest and mean temperature in °C"""
        return self._current(latitude, longitude, current_date, "highest", "lowest", "mean")

    @tool
    def get_current_rain(self, latitude: Latitude, longitude: Longitude, current_date: Day) -> dict[str, Any]:
        """today's rain in mm"""
        return self._current(latitude, longitude, current_date, "rain")

    @tool
    def get_current_snow(self, latitude: Latitude, longitude: Longitude, current_date: Day) -> dict[str, Any]:
        """today's snowfall in cm"""
        return self._current(latitude, longitude, current_date, "snow")

    @tool
    def get_historical_temp(
        self, latitude: Latitude, longitude: Longitude, start_date: Day, end_date: Day
    ) -> dict[str, Any]:
        """daily temperatures in °C on past days"""
        return self._past(latitude, longitude, start_date, end_date, "highest", "lowest", "mean")

    @tool
    def get_historical_rain(
        self, latitude: Latitude, longitude: Longitude, start_date: Day, end_date: Day
    ) -> dict[str, Any]:
        """daily rain in mm on past days"""
        return self._past(latitude, longitude, start_date, end_date, "rain")

    @tool
    def get_historical_snow(
        self, latitude: Latitude, longitude: Longitude, start_date: Day, end_date: Day
    ) -> dict[str, Any]:
        """daily snowfall in cm on past days"""
        return self._past(latitude, longitude, start_date, end_date, "snow")

    @tool
    def get_temp_forecast(
        self, latitude: Latitude, longitude: Longitude, start_date: Day, end_date: Day
    ) -> dict[str, Any]:
        """daily temperatures in °C on coming days"""
        return self._coming(latitude, longitude, start_date, end_date, "highest", "lowest", "mean")

    @tool
    def get_rain_forecast(
        self, latitude: Latitude, longitude: Longitude, start_date: Day, end_date: Day
    ) -> dict[str, Any]:
        """daily rain in mm on coming days"""
        return self._coming(latitude, longitude, start_date, end_date, "rain")

    @tool
    def get_snow_forecast(
        self, latitude: Latitude, longitude: Longitude, start_date: Day, end_date: Day
    ) -> dict[str, Any]:
        """daily snowfall in cm on coming days"""
        return self._coming(latitude, longitude, start_date, end_date, "snow")

    @tool
    def get_weather_forecast(self, latitude: Latitude, longitude: Longitude) -> dict[str, Any]:
        """tomorrow's temperatures, rain and snowfall"""
        tomorrow = self._today + timedelta(days=1)
        return self._days(latitude, longitude, tomorrow, tomorrow, "highest", "lowest", "mean", "rain", "snow")

    def values(self) -> dict[str, list[Any]]:
        places = self.database.rows("SELECT name, latitude, longitude FROM place ORDER BY id")
        columns = {key: [place[key] for place in places] for key in ("name", "latitude", "longitude")}
        columns |= {f"{key}1": columns[key] for key in ("latitude", "longitude")}
        columns |= {f"{key}2": columns[key][::-1] for key in ("latitude", "longitude")}
        yesterday, today = (self._today - timedelta(days=1)).isoformat(), self._today.isoformat()
        return columns | {
            "current_date": [today] * PLACES,
            "start_date": [yesterday] * PLACES,
            "end_date": [yesterday] * PLACES,
        }

    @property
    def _today(self) -> date:
        return date.fromisoformat(self.database.column("SELECT today FROM user")[0])

    def _at(self, latitude: float, longitude: float, *columns: str) -> dict[str, Any]:
        """Columns of the place that is there."""
        wanted = ", ".join(("latitude", "longitude", *columns))
        query = f"SELECT {wanted} FROM place WHERE abs(latitude - ?) <= ? AND abs(longitude - ?) <= ? ORDER BY id"
        rows = self.database.rows(query, latitude, NEAR_DEGREES, longitude, NEAR_DEGREES)
        if not rows:
            raise ToolError(f"there is no weather station near latitude {latitude}, longitude {longitude}")
        return rows[0]

    def _current(self, latitude: float, longitude: float, day: date, *columns: str) -> dict[str, Any]:
        if day != self._today:
            raise ToolError("current_date must be the current date")
        return self._days(latitude, longitude, day, day, *columns)

    def _past(self, latitude: float, longitude: float, start: date, end: date, *columns: str) -> dict[str, Any]:
        for name, day in (("start_date", start), ("end_date", end)):
            if day >= self._today:
                raise ToolError(f"{name} must be earlier than the current date")
        return self._days(latitude, longitude, start, end, *columns)

    def _coming(self, latitude: float, longitude: float, start: date, end: date, *columns: str) -> dict[str, Any]:
        for name, day in (("start_date", start), ("end_date", end)):
            if day <= self._today:
                raise ToolError(f"{name} must be later than the current date")
        return self._days(latitude, longitude, start, end, *columns)

    def _days(self, latitude: float, longitude: float, start: date, end: date, *columns: str) -> dict[str, Any]:
        if end < start:
            raise ToolError("end_date must not be earlier than start_date")
        if (end - start).days > LONGEST_SPAN_DAYS:
            raise ToolError(f"one query spans at most {LONGEST_SPAN_DAYS} days: split it")
        place = self._at(latitude, longitude, "id")
        query = f"SELECT date, {', '.join(columns)} FROM day WHERE place = ? AND date BETWEEN ? AND ? ORDER BY date"
        days = self.database.rows(query, place.pop("id"), start.isoformat(), end.isoformat())
        if not days:
            raise ToolError(f"there are no records from {start} to {end}")
        return place | {"daily": {name: [day[name] for day in days] for name in ("date", *columns)}}


def distance_km(latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> float:
    """The great-circle distance between two points given in degrees (haversine)."""
    one, other = math.radians(latitude1), math.radians(latitude2)
    across = math.radians(longitude2 - longitude1)
    half = math.sin((other - one) / 2) ** 2 + math.cos(one) * math.cos(other) * math.sin(across / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))


def draw_weather(random: Random) -> Weather:
    """A world of a few towns, half of them cold enough for snow."""
    database = Database(SCHEMA)
    today = date(2021, 1, 1) + timedelta(days=random.randrange(1000))
    towns = names.places(random, PLACES)
    database.insert("user", [(today.isoformat(), random.choice(towns))])
    latitudes = random.sample(range(35, 66, 2), PLACES)
    places, days = [], []
    for number, (town, latitude) in enumerate(zip(towns, latitudes, strict=True)):
        warmth = random.uniform(-6, 0) if number % 2 else random.uniform(8, 24)
        position = latitude + random.randint(0, 90) / 100, random.randint(-1000, 3000) / 100
        elevation, air = random.randint(5, 2200), random.randint(5, 110)
        places.append((number, town, random.choice(names.COUNTRIES), *position, elevation, air))
        for offset in range(-PAST_DAYS, FUTURE_DAYS + 1):
            days.append((number, (today + timedelta(days=offset)).isoformat(), *_draw_day(random, warmth)))
    database.insert("place", places)
    database.insert("day", days)
    return Weather(database)


def _draw_day(random: Random, warmth: float) -> tuple[float, ...]:
    """Highest, lowest and mean temperature, rain and snow."""
    mean = warmth + random.uniform(-4, 4)
    water = max(0.0, random.uniform(-8, 14))
    rain, snow = (0.0, water) if mean < 1 else (water, 0.0)
    values = mean + random.uniform(2, 6), mean - random.uniform(2, 6), mean, rain, snow
    return tuple(round(value, 1) for value in values)
