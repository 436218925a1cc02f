"""Where a training is told of: one file per tracker."""
