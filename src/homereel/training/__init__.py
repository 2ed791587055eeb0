"""Training: the procedural world, trainers for every part of a video model, and the exam that measures one."""
