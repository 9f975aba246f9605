import hypothesis.strategies as st
import pytest
from hypothesis import given

from agentrm.environments.base import Environment
from agentrm.environments.registry import environment_class, names
from agentrm.environments.rewriting import Rewriting

ITEM = r"[a-z]+ [0-9]+"
REORDER = Rewriting(("take {o} from {r}", "from {r} take {o}"), slots={"o": ITEM, "r": ITEM})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("take mug 1 from desk 2", "from desk 2 take mug 1"),
        ("from desk 2 take mug 1", "take mug 1 from desk 2"),
        ("Then take  mug 1\nfrom desk 2, quickly", "Then from desk 2 take mug 1, quickly"),
        ("take mug 1 from desk 2 take mug 1 from desk 2", "from desk 2 take mug 1 from desk 2 take mug 1"),
        ("mistake mug 1 from desk 2", "mistake mug 1 from desk 2"),
        ("take mug 1 from desk 2b", "take mug 1 from desk 2b"),
        ("take mug from desk", "take mug from desk"),
        ("Take mug 1 from desk 2", "Take mug 1 from desk 2"),
        ("", ""),
    ],
)
def test_a_wording_is_exchanged_wherever_it_stands(before: str, after: str) -> None:
    assert REORDER(before) == after


def test_several_wordings_and_any_case() -> None:
    rewriting = Rewriting(("go to", "walk to"), ("ball {n}", "sphere{n}"), slots={"n": "[0-9]+"}, ignore_case=True)
    assert rewriting("Go to ball 12. WALK TO sphere3.") == "walk to sphere12. go to ball 3."


PERTURBED = [(name, wording) for name in names() for wording in environment_class(name).perturbations]


@pytest.mark.parametrize(("name", "wording"), PERTURBED)
def test_twice_is_the_text_again(name: str, wording: str) -> None:
    environment: type[Environment] = environment_class(name)
    words = "go move take from to clean using with pick up fetch proceed walk mug 1 22 desk mug1 desk22 <object> ( ."
    texts = st.lists(st.sampled_from(words.split())).map(" ".join)

    @given(texts)
    def check(text: str) -> None:
        there = text
        for rewriting in environment.perturbations[wording]:
            assert rewriting(rewriting(text)) == text
            there = rewriting(there)
        for rewriting in reversed(environment.perturbations[wording]):
            there = rewriting(there)
        assert there == text

    check()
