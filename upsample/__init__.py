"""Super-resolution as the consumer of `degrade`: the one-step student, its teacher, and their co-learning."""

__all__: list[str] = []
