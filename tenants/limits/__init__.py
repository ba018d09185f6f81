"""How much may be used: quotas and their limits, spend caps, budgets, and the rate of those who show no key."""
