"""Front ends: readers of a model's events. No torch in here."""
