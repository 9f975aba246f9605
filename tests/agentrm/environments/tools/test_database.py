from agentrm.environments.tools.database import Database


def test_rows_and_columns() -> None:
    database = Database("CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT)")
    database.insert("thing", [(2, "b"), (1, "a")])
    database.insert("thing", [])
    database.execute("UPDATE thing SET name = ? WHERE id = ?", "z", 2)
    assert database.rows("SELECT * FROM thing ORDER BY id") == [{"id": 1, "name": "a"}, {"id": 2, "name": "z"}]
    assert database.column("SELECT name FROM thing WHERE id > ?", 1) == ["z"]
    database.close()


def test_an_image_is_the_whole_database() -> None:
    one, other = Database("CREATE TABLE thing (id INTEGER PRIMARY KEY)"), Database()
    one.insert("thing", [(1,), (2,)])
    image = one.save()
    one.execute("DELETE FROM thing")
    other.load(image)
    assert other.column("SELECT id FROM thing") == [1, 2]
    assert one.column("SELECT id FROM thing") == []
    assert len(image) < 5_000
    one.close()
    other.close()
