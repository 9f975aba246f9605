// The page shows a run, or with ?left=TREE (and &right=TREE) one or two of its search trees.

import { showRun } from "./run.js";
import { showTrees } from "./trees.js";

const parameters = new URLSearchParams(location.search);
const chosen = ["left", "right"].map((side) => parameters.get(side)).filter(Boolean);
if (chosen.length) showTrees(chosen);
else showRun();
