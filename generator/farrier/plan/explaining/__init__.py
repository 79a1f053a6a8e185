"""How a setting comes about, with the numbers filled in: formula, inputs, steps, and what would change it. Pure."""
