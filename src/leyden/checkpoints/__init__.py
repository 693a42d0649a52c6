"""When checkpoints are saved, how they are written, found and read, and how a run resumes from one."""
