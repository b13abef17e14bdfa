"""Ready-made templates: recipes as ``thaw build`` takes them, with what the API shows of them beside.

``entries`` reads the files of this folder. Building them is ``build``'s business, listing them ``api``'s.
"""
