"""Containers on one machine: gVisor, network slots, firewall, cgroups, EROFS images. ``runtime`` is the interface."""
