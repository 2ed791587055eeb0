"""Queued work that outlives its processes: the store, each job's folder, and who watches over workers."""
