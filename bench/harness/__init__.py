"""What every benchmark stands on: child processes, the engine under test, its cost, the report."""
