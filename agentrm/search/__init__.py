"""Searches: coroutines over a policy, a reward model and sessions; none of them can reach the true reward."""

from agentrm.search.beam import Beam
from agentrm.search.best_of_n import BestOfN, JudgedBestOfN
from agentrm.search.dvts import DVTS
from agentrm.search.episode import Opening
from agentrm.search.exploration import Exploration
from agentrm.search.greedy import Greedy
from agentrm.search.guided_mcts import GuidedMCTS
from agentrm.search.lookahead import Lookahead
from agentrm.search.result import Cost, Result
from agentrm.search.sampling import Sample
from agentrm.search.stepwise import Stepwise
from agentrm.search.strategy import Strategy, search
from agentrm.search.voting import Majority, Weighted

__all__ = [
    "DVTS",
    "Beam",
    "BestOfN",
    "Cost",
    "Exploration",
    "Greedy",
    "GuidedMCTS",
    "JudgedBestOfN",
    "Lookahead",
    "Majority",
    "Opening",
    "Result",
    "Sample",
    "Stepwise",
    "Strategy",
    "Weighted",
    "search",
]
