"""Who may open the page where others can reach it: accounts, sessions, and the gate that asks for them. No gradio."""
