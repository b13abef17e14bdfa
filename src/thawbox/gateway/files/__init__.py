"""Files of a sandbox over HTTP: content, folders, transfers of every size, watching."""
