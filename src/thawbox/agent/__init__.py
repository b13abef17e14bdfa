"""The program that is process 1 inside every sandbox. Standard library only.

``agent.py`` starts it, ``main`` serves the operations, ``protocol`` is what both sides send. ``copy_program`` and
``watch_program`` are processes of their own. ``python/`` runs on the template's own Python instead, which may be 3.8.

The agent does only what must happen inside; APIs are assembled outside, through ``thawbox.guest``.
"""
