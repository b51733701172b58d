"""A small trainer that is handed a task and does not know which paper it trains."""
