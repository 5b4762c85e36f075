"""One file a tab: it reads widgets, builds a Request and hands it to the worker."""
