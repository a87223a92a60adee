"""A cluster on the ranks of ``mpirun`` or ``srun``."""
