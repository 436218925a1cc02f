"""One file per runtime that a time can be asked for on."""
