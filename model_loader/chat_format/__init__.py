"""Messages to prompt ids, and generated ids back to text; knows a tokenizer and no model, imports no torch."""
