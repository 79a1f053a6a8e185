"""The plan's sections: each turns formulas into settings with a reason, in the order that `planner` calls them."""
