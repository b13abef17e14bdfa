"""Setting a machine up for Thawbox: install runsc, prove that it works, say what is missing (``thaw doctor``)."""
