"""What is owed: a month's bill, the invoice that it becomes, adjustments, credit, and the proof."""
