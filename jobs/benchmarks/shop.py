"""What WebShop's data costs at any size: building its index, the first reset, a search, the memory of a process.

    agentrm benchmark shop --products 200000 --json

The data is made up in the published form: products of the generated shop, each with a description of words drawn so
that texts are as long, words as frequent and records as large as in WebShop's own; one product in 98 is asked for, as
there. The shop is built in one process and played in another, as hosts do. Figures for the full shop are reckoned in
proportion to the number of products. Seconds of the processor (`cpu`) do not depend on what else the machine does.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from agentrm.environments.registry import environment_class, make
from agentrm.environments.webshop import DATA_VARIABLE, SESSIONS
from agentrm.environments.webshop.generator import catalogue

FULL = 1_181_436
"""The products of `items_shuffle.json`."""
SEARCHES = 200
_ASKED_EVERY = 98
# Measured on 1,000 of WebShop's products: 107 words, the most frequent in 44 % of the texts, 4.6 kB a record.
_WORDS, _VOCABULARY, _SHIFT = 85, 1_000_000, 10
_IMAGES = ["https://images.example/" + "x" * 80 + ".jpg"] * 30


def run(products: int, as_json: bool) -> None:
    """Measure, and print a table or JSON."""
    with tempfile.TemporaryDirectory(prefix="shop") as folder:
        begun = time.perf_counter()
        write_data(Path(folder), products)
        written = time.perf_counter() - begun
        built = _elsewhere(build, folder)
        played = _elsewhere(play, folder)
    figures = {"products": products, "write_s": written, **built, **played}
    full = {
        key: figures[key] * FULL / products
        for key in ("build_s", "build_cpu_s", "build_peak_gb", "disk_gb", "search_ms", "search_cpu_ms")
    }
    if as_json:
        print(json.dumps({**figures, "full_shop": full}))
        return
    table = Table("", f"{products:,} products", f"reckoned for {FULL:,}")
    for key, value in figures.items():
        table.add_row(key, f"{value:,.4g}", f"{full[key]:,.4g}" if key in full else "")
    Console().print(table)


def write_data(folder: Path, products: int) -> None:
    """The three files of WebShop's data, with this many products."""
    random = Random(0)
    sold = list(catalogue().products.values())
    weights = list(accumulate(1 / (rank + _SHIFT) for rank in range(_VOCABULARY)))
    ranks = range(_VOCABULARY)

    def records() -> Iterator[dict[str, Any]]:
        for number in range(products):
            product = sold[number % len(sold)]
            words = random.choices(ranks, cum_weights=weights, k=_WORDS)
            yield {
                "asin": f"B{number:09d}",
                "name": f"{product.title} {words[0]}",
                "full_description": " ".join(f"w{word}" for word in words),
                "pricing": product.price_tag,
                "product_category": " \u203a ".join(product.path),
                "small_description": list(product.features) or [""],
                "customization_options": {
                    name: [{"value": value} for value in values] for name, values in product.options.items()
                },
                "category": product.category,
                "query": product.query,
                "images": _IMAGES,
            }

    asked: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    with (folder / "items_shuffle.json").open("w") as file:
        for number, record in enumerate(records()):
            file.write(("[" if number == 0 else ",\n") + json.dumps(record))
            own = list(sold[number % len(sold)].attributes)
            attributes[record["asin"]] = {"attributes": own}
            if number % _ASKED_EVERY == 0:
                options = [values[0]["value"] for values in record["customization_options"].values()]
                asked[record["asin"]] = [
                    {"instruction": f"i need {record['name']}", "instruction_attributes": own,
                     "instruction_options": options}
                ]  # fmt: skip
        file.write("]")
    (folder / "items_ins_v2.json").write_text(json.dumps(attributes))
    (folder / "items_human_ins.json").write_text(json.dumps(asked))


def build(folder: str) -> dict[str, float]:
    """The shop on disk, in a new process."""
    os.environ[DATA_VARIABLE] = folder
    begun = time.perf_counter()
    sessions = environment_class("webshop").size(SESSIONS, "test")
    taken = time.perf_counter() - begun
    index = sum(path.stat().st_size for path in (Path(folder) / ".agentrm").rglob("*") if path.is_file())
    return {
        "build_s": taken,
        "build_cpu_s": time.process_time(),
        "build_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "disk_gb": index / 2**30,
        "sessions": sessions,
    }


def play(folder: str) -> dict[str, float]:
    """A new process with a shop that was built before: `private_mb` is its memory that no other process shares."""
    os.environ[DATA_VARIABLE] = folder
    begun = time.perf_counter()
    shop = make("webshop")
    cls = environment_class("webshop")
    first = cls.task(SESSIONS, "test", 0)
    shop.reset(first)
    first_reset = time.perf_counter() - begun
    searches, processor = [], []
    for index in range(SEARCHES):
        task = cls.task(SESSIONS, "test", index % cls.size(SESSIONS, "test"))
        text = shop.reset(task).text.split("Instruction: [SEP] ")[1].split(", and price")[0]
        begun, used = time.perf_counter(), time.process_time()
        page = shop.step(f"search[{text}]").text
        searches.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
        shop.step(f"click[{page.split(' [SEP] ')[4]}]")
    shop.close()
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "first_reset_s": first_reset,
        "search_ms": 1000 * median(searches),
        "search_cpu_ms": 1000 * median(processor),
        "slowest_search_ms": 1000 * max(searches),
        "private_mb": int(status["RssAnon"].split()[0]) / 1024,
    }


def _elsewhere(function: Callable[[str], dict[str, float]], folder: str) -> dict[str, float]:
    """What a function of this module finds in a new process, which has imported nothing else."""
    program = f"import json; from jobs.benchmarks import shop; print(json.dumps(shop.{function.__name__}({folder!r})))"
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
