"""The report on tested runs: numbers, tables and figures as an HTML page, Markdown, LaTeX or CSV."""
