"""The build line: resolve, plan, steps, image, snapshot, publish. A file per phase, a short loop over them."""
