"""Ready-made templates: one recipe per file, as ``thaw build`` takes it, with the facts that the API lists.

``entries`` reads the files. ``builder`` builds the templates, ``api`` lists them.
"""
