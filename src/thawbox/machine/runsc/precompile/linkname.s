// Its presence lets functions without a body be declared, which go:linkname finds elsewhere.
