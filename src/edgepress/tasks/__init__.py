"""What a network is asked, one file per task: loss, scores, agreement, outputs in words. Imports without torch."""
