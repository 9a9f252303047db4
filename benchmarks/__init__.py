"""Speed, memory and robustness, measured against a baseline in the same run; run a file to measure."""
