"""The registered data sets: one file each, light to import."""
