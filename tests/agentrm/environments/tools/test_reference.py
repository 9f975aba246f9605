import pytest

from agentrm.environments.tools.reference import Unfit, best, same_answer, some


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5, 5.0),
        ("5.0", 5),
        (5.01, 5),
        (4.99, 5),
        (" the  Old MILL ", "The old mill"),
        (["b", "A"], ["a", "b"]),
        (["a"], "A"),
        ([2, "x", 1], ["1", "2", "X"]),
        ("2021-03-04", "2021-03-04"),
    ],
)
def test_the_same_answer(given, expected) -> None:
    assert same_answer(given, expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5.02, 5),
        ("five", 5),
        ([], "a"),
        (["a", "a"], ["a"]),
        (["a"], ["a", "b"]),
        ("nan", 0),
        ("2021-03-04", "2021-03-05"),
    ],
)
def test_another_answer(given, expected) -> None:
    assert not same_answer(given, expected)


def test_the_best_is_one() -> None:
    assert best(["aa", "b", "ccc"], len) == "ccc"
    assert best(["aa", "b", "ccc"], len, least=True) == "b"
    for tied in (["a", "b"], []):
        with pytest.raises(Unfit):
            best(tied, len)


def test_some_are_not_none() -> None:
    assert some(iter([1, 2])) == [1, 2]
    with pytest.raises(Unfit):
        some([])
