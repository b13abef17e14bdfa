"""One machine: the runtime, network slots, cgroups, EROFS images and the self-test of all that."""
