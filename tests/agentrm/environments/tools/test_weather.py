from datetime import date
from random import Random

import pytest

from agentrm.environments.tools.database import Database
from agentrm.environments.tools.toolkit import ToolError
from agentrm.environments.tools.weather import (
    FUTURE_DAYS,
    PAST_DAYS,
    PLACES,
    SCHEMA,
    Weather,
    distance_km,
    draw_weather,
)


@pytest.fixture
def weather():
    database = Database(SCHEMA)
    database.insert("user", [("2022-05-10", "Belham")])
    database.insert(
        "place", [(0, "Belham", "Avaria", 50.0, 8.0, 120.0, 19), (1, "Corvik", "Drovia", 60.0, 8.0, 900.0, 100)]
    )
    days = [
        (0, "2022-05-08", 20.5, 9.0, 14.0, 0.0, 0.0),
        (0, "2022-05-09", 18.0, 8.0, 13.0, 4.2, 0.0),
        (0, "2022-05-10", 17.0, 7.0, 12.0, 1.0, 0.0),
        (0, "2022-05-11", 16.0, 6.0, 11.0, 0.0, 0.5),
    ]
    database.insert("day", days)
    yield Weather(database)
    database.close()


def test_the_user_is_somewhere_today(weather) -> None:
    assert (weather.get_user_current_date(), weather.get_user_current_location()) == ("2022-05-10", "Belham")


def test_places(weather) -> None:
    found = [{"name": "Corvik", "latitude": 60.0, "longitude": 8.0, "country": "Drovia"}]
    assert weather.get_latitude_longitude(" corvik ") == found
    assert weather.get_latitude_longitude("Nowhere") == []
    assert weather.get_elevation(59.8, 8.2) == {"latitude": 60.0, "longitude": 8.0, "elevation": 900.0}
    with pytest.raises(ToolError, match=r"there is no weather station near latitude 1\.0, longitude 8\.0"):
        weather.get_elevation(1.0, 8.0)


def test_air_quality_has_a_level(weather) -> None:
    assert weather.get_air_quality_index(50.0, 8.0)["level"] == "good"
    assert weather.get_air_quality_index(60.0, 8.0)["level"] == "extremely poor"


def test_a_degree_of_latitude_is_111_km(weather) -> None:
    assert distance_km(50, 8, 51, 8) == pytest.approx(111.195, abs=0.001)
    assert distance_km(0, 0, 0, 180) == pytest.approx(20015.1, abs=0.1)
    assert weather.get_distance(50.0, 8.0, 60.0, 8.0) == 1112.0


def test_days_by_tense(weather) -> None:
    past = weather.get_historical_temp(50.0, 8.0, date(2022, 5, 8), date(2022, 5, 9))
    daily = {"date": ["2022-05-08", "2022-05-09"], "highest": [20.5, 18.0], "lowest": [9.0, 8.0], "mean": [14.0, 13.0]}
    assert past == {"latitude": 50.0, "longitude": 8.0, "daily": daily}
    rain = weather.get_historical_rain(50.0, 8.0, date(2022, 5, 9), date(2022, 5, 9))
    assert rain["daily"] == {"date": ["2022-05-09"], "rain": [4.2]}
    assert weather.get_current_rain(50.0, 8.0, date(2022, 5, 10))["daily"]["rain"] == [1.0]
    snow = weather.get_snow_forecast(50.0, 8.0, date(2022, 5, 11), date(2022, 5, 11))
    assert snow["daily"] == {"date": ["2022-05-11"], "snow": [0.5]}
    assert weather.get_weather_forecast(50.0, 8.0)["daily"]["mean"] == [11.0]


@pytest.mark.parametrize(
    ("tool", "start", "end", "text"),
    [
        ("get_historical_temp", (2022, 5, 9), (2022, 5, 10), "end_date must be earlier than the current date"),
        ("get_temp_forecast", (2022, 5, 10), (2022, 5, 11), "start_date must be later than the current date"),
        ("get_historical_temp", (2022, 5, 9), (2022, 5, 8), "end_date must not be earlier than start_date"),
        ("get_historical_temp", (2022, 4, 1), (2022, 5, 8), "one query spans at most 30 days: split it"),
        ("get_historical_temp", (2022, 4, 1), (2022, 4, 2), "there are no records from 2022-04-01 to 2022-04-02"),
    ],
)
def test_wrong_days_are_refused(weather, tool, start, end, text) -> None:
    with pytest.raises(ToolError) as caught:
        getattr(weather, tool)(50.0, 8.0, date(*start), date(*end))
    assert str(caught.value) == text


def test_now_is_today(weather) -> None:
    with pytest.raises(ToolError, match="current_date must be the current date"):
        weather.get_current_temp(50.0, 8.0, date(2022, 5, 9))


def test_a_drawn_world_is_whole() -> None:
    weather = draw_weather(Random(3))
    rows = weather.database.rows("SELECT highest, lowest, mean, rain, snow FROM day")
    assert len(rows) == PLACES * (PAST_DAYS + 1 + FUTURE_DAYS)
    assert all(row["lowest"] < row["mean"] < row["highest"] and 0 in (row["rain"], row["snow"]) for row in rows)
    assert {bool(row["snow"]) for row in rows} == {bool(row["rain"]) for row in rows} == {True, False}
    places = weather.database.rows("SELECT * FROM place")
    for place in places:
        assert weather.get_elevation(place["latitude"], place["longitude"])["elevation"] == place["elevation"]
    weather.database.close()
