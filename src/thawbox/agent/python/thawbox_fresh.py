"""Makes a process from a snapshot differ from its clones. For the template's own Python, 3.8 or newer.

Every sandbox of a template begins with the same memory, so with the same state of every random generator. What cannot
be renewed: the seed of ``hash()`` for text (PYTHONHASHSEED; the order of sets depends on it), addresses in memory, and
generators that a program created before the freeze.
"""

import os
import sys


def refresh():
    """Give the generators of loaded modules new seeds from the kernel's generator."""
    for renew in (_random, _numpy, _torch, _names, _processes, _openssl):
        try:
            renew()
        except Exception:  # another module of that name
            pass


def _random():
    if "random" in sys.modules:
        sys.modules["random"].seed()


def _numpy():
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _torch():
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def _names():
    """uuid1's clock and node, and the sequence of temporary names."""
    if "uuid" in sys.modules:
        sys.modules["uuid"]._node = sys.modules["uuid"]._last_timestamp = None
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None


def _processes():
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)


def _openssl():
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(64), 64.0)
