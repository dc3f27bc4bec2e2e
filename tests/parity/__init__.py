"""How the golden cases of each system are run through its conversion: one module per system, named like it."""
