"""From captioned videos to rows that training reads: noun phrases, detections, trajectories, and what was dropped."""
