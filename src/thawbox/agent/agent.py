"""Starts a program of the agent: ``main``, process 1, or the one that the first argument names.

gVisor restores a memory snapshot only with the arguments that it was frozen with, and the path of this file is one of
them. So this file must keep its name and its folder.
"""

import os
import sys

PROGRAMS = ("copy_program", "watch_program")
"""Modules that process 1 starts as processes of their own, because what they import would stay in its memory."""

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # -I leaves it out
    name, *arguments = sys.argv[1:] if sys.argv[1:2] and sys.argv[1] in PROGRAMS else ["main", *sys.argv[1:]]
    __import__(f"agent.{name}", fromlist=["main"]).main(arguments)
