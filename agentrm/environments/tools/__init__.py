"""Tools with typed JSON arguments over seeded tables: what ToolQuery and ToolOperation are made of."""
