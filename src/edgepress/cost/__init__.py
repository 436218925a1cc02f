"""What a layer and an exported file take: budgets in the user's units, and a table of measured layer times."""
