"""What was used: events, their segments and sums, who brings them, their archive, and the proof."""
