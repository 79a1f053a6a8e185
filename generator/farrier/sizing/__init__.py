"""The formulas: pure functions of numbers, one quantity per module, no I/O."""
