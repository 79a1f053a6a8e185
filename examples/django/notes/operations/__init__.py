"""Pages for operators and load generators; people who read notes never see them."""
