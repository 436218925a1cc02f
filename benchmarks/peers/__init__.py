"""What others would write or use, for comparison. Nothing here uses the rooms it is compared with."""
