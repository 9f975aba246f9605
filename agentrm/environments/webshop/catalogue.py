"""What a shop sells, and the full-text index that its search bar asks."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
import Stemmer

# The package sets its logger to tell everything, whatever the program wants.
logging.getLogger("bm25s").setLevel(logging.WARNING)

RESULTS_KEPT = 50
PRODUCTS_PER_PAGE, BRIEF_PAGE = 10, 4
# Anserini's parameters, with which the original's Lucene index is searched.
K1, B = 0.9, 0.4
# Those of Lucene's English analyser.
_STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with",
    )
)
_WORD = re.compile(r"\w+(?:[.'\u2019]\w+)*")
_POSSESSIVE = re.compile("['\u2019]s$")
_STEMMER = Stemmer.Stemmer("porter")


@dataclass(frozen=True, slots=True)
class Product:
    """One product; prices in dollars.

    `category` is the task's kind, `query` the product type, `path` the shop's categories from broad to narrow,
    `options` the values to choose from by name (both in lower case), `price` what is paid, `price_tag` what is shown.
    """

    asin: str
    title: str
    category: str
    query: str
    path: tuple[str, ...]
    description: str
    features: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    price: float
    price_tag: str
    rating: str = "N.A."
    reviews: tuple[str, ...] = ()

    def indexed_text(self) -> str:
        """The text that is searched, as in the original: title, description, first feature and options."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        return " ".join((self.title, self.description, *self.features[:1], options))


class Catalogue:
    """Products by asin in the shop's order, and a BM25 index (Lucene's variant) over their texts.

    A `brief` shop has short pages: see `pages.render`.
    """

    def __init__(self, products: Sequence[Product], brief: bool = False) -> None:
        self.products: Mapping[str, Product] = {product.asin: product for product in products}
        self.brief = brief
        self.per_page = BRIEF_PAGE if brief else PRODUCTS_PER_PAGE
        self._asins = tuple(self.products)
        self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
        texts = [terms(product.indexed_text()) for product in self.products.values()]
        self._index.index(texts, show_progress=False)

    def search(self, keywords: str) -> tuple[str, ...]:
        """The asins of the best matches, best first, at most RESULTS_KEPT; equal scores in the shop's order."""
        known = [term for term in terms(keywords) if term in self._index.vocab_dict]
        if not known:
            return ()
        scores = self._index.get_scores(known)
        matching = np.flatnonzero(scores > 0)
        best = matching[np.argsort(-scores[matching], kind="stable")][:RESULTS_KEPT]
        return tuple(self._asins[number] for number in best)


def terms(text: str) -> list[str]:
    """The words of a text as the index knows them: lower case, without stop words and possessives, stemmed."""
    words = (_POSSESSIVE.sub("", word) for word in _WORD.findall(text.lower()))
    # The stem of a lone "s" is no word.
    return [stem for stem in _STEMMER.stemWords([word for word in words if word not in _STOPWORDS]) if stem]
