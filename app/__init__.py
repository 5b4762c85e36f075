"""The page of the studio and what stands behind it: presets, history, the worker."""
