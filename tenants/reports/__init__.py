"""What was used and earned, to read: the customer's usage reports, the operator's reports, and both as CSV."""
