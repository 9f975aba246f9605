"""Search trees as one SQL table: what a run's trees hold, and the best way that was found for each task.

python examples/trees_in_duckdb.py runs/quickstart
"""

from __future__ import annotations

import argparse

import duckdb

from agentrm import RunDirectory

SUMMARY = """
select environment, kind, split, count(distinct tree) as trees, count(*) as nodes,
       round(avg(value) filter (depth = 0), 3) as value_at_root, round(avg(outcome), 3) as outcome_at_ends
from nodes group by all order by all
"""

# A node's parent is the number of another node of the same tree.
BEST_WAYS = """
with recursive ends as (
    select tree, node, outcome from nodes where outcome is not null
    qualify row_number() over (partition by tree order by outcome desc, depth, node) = 1
), way as (
    select tree, node as finish, node, outcome from ends
    union all
    select way.tree, way.finish, nodes.parent, way.outcome
    from way join nodes on nodes.tree = way.tree and nodes.node = way.node where nodes.parent >= 0
)
select tree, any_value(way.outcome) as outcome, string_agg(action, ', ' order by depth) as actions
from way join nodes using (tree, node) where depth > 0 group by tree order by outcome desc, tree limit 10
"""


def main(run: str) -> None:
    """Print both tables. DuckDB reads the files themselves: one row per node, one file per tree."""
    trees = RunDirectory.existing(run).path("trees")
    connection = duckdb.connect()
    connection.read_parquet(f"{trees}/**/*.parquet", hive_partitioning=False).create_view("nodes")
    connection.sql(SUMMARY).show()
    connection.sql(BEST_WAYS).show(max_width=160)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run with trees, finished or not")
    main(parser.parse_args().run)
