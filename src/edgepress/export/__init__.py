"""The one-way door from a model to a program: one file per format, and the parity gate every export passes."""
