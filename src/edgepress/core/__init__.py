"""The words every other room speaks: artifacts, stages, configuration, registries, errors, files. Needs no torch."""
