"""One file per method. A module here registers itself by ``@method``; nothing else lists it."""
