"""A template's frozen version on disk: manifest, image, memory snapshot, layers; who keeps them, who removes them."""
