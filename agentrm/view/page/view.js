// The page shows a run, with ?left=TREE (and &right=TREE) one or two of its search trees, or with ?episode=TREE/NODE (and
// &beside=TREE/NODE) one or two episodes.

import { showEpisodes } from "./episodes.js";
import { showRun } from "./run.js";
import { showTrees } from "./trees.js";

const parameters = new URLSearchParams(location.search);
const chosen = (...names) => names.map((name) => parameters.get(name)).filter(Boolean);
const [trees, episodes] = [chosen("left", "right"), chosen("episode", "beside")];
if (episodes.length) showEpisodes(episodes);
else if (trees.length) showTrees(trees);
else showRun();
