"""PDDL."""

DATA_VARIABLE = "AGENTBOARD_PDDL"
SOURCE = "AgentBoard's code (github.com/hkust-nlp/AgentBoard: agentboard/environment/pddl_env/pddlgym/pddl)"
# The folder of each kind and how many of its problems, by file name, AgentBoard's test takes.
OFFICIAL = {"gripper": ("gripper", 20), "blocksworld": ("blockworld", 10), "barman": ("barman", 20),
            "tyreworld": ("tyreworld", 10)}  # fmt: skip
