"""The program that is process 1 inside every sandbox, and the way to talk to it.

Inside, on the standard library alone: ``agent`` and what it imports (``wire``, ``children``, ``commands``,
``files``, ``machine``, ``copying``, ``users``), and ``place``, which it starts. Outside: ``client`` with its
parts, ``channel`` and ``image``. ``protocol`` is both sides' bytes. The agent does only what must happen
inside; APIs are assembled from it outside.
"""
