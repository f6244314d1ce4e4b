"""What the stages of a run do for language models, where that is something else."""
