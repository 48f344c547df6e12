"""The page. Importing anything in here closes what Gradio would otherwise open; see `environment`."""

from ui.web.environment import close_doors

close_doors()
