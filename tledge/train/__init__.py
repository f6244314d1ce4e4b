"""Training: Hugging Face's Trainer with tledge's losses, scores and resume."""
