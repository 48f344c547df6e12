"""Programs that print figures, as a table and then one JSON line; nothing is asserted about time."""
