"""`stemjax simulate`: what a person writes (`settings` and its sections), what it becomes (`specimen`, `beam`, `scan`,
`detectors`, `spectrum`), how it is computed (`run`) and written (`files`)."""
