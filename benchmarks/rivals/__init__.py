"""What one would use instead of Thawbox for "a machine, and a command's result in it": one file each.

Each has ``NAME``, ``INSTALL`` (how to get what it needs), ``missing()`` (what is not there) and ``prepared(ground)``,
a context with a function that does the work once: it gives the milliseconds until `true` has answered, and
has cleaned up, which is not counted, when it returns.
"""
