"""API keys: their verbs, when each was last used, and the networks that they are good in."""
