"""`w4ax serve` in a closed loop with simulated physics. See docs/closed-loop.md."""
