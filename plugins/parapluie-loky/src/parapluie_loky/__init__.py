"""loky as a backend of parapluie: `Executor("loky")`."""
