"""What a user may name as a path: inside the allowed folders, and nowhere else."""
