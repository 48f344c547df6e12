"""What all front ends share: conversations, who owns them, and answers that go on without a screen; no widgets."""
