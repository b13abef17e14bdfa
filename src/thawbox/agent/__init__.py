"""The program that is process 1 inside every sandbox. Standard library only.

``agent.py`` starts it, ``main`` serves the operations, ``protocol`` encodes and decodes what both sides send.
``copy_program`` and ``watch_program`` are processes of their own. ``python/`` runs on the template's own Python, which
may be 3.8.

The agent does only what must happen inside; the APIs are outside and use it through ``thawbox.guest``, which also has
the list of operations (``guest/operations.py``).
"""
