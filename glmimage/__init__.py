"""GLM-Image from a typed prompt to a picture, in one process.

Importing this package imports nothing heavy; `glmimage.engine` is the way in.
"""
